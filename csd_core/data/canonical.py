"""The canonical set: one source or batch, immutable, every image in its form and known by the hash of its pixels.

    images.npy        (N, H, W, C) uint8, read memory-mapped; or images.arrow, each encoded (`data.store`)
    items.parquet     id, label, source_split, path: row by row the same items, by path
    thumbnails.arrow  small pictures of the originals that are larger than the form, where they are asked for
    rejected.parquet  path, reason: what is not among them
    source.json       SourceRecord

Ids hash the canonical pixels, so a file that was copied, renamed, stripped of metadata or saved again without loss is
the same item (but for a JPEG so large that its decoder shrank it: its copy in another format is not). Of equal images
the one whose path comes first is kept.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from csd_core.data.classes import order_classes
from csd_core.data.encoded import Images, Store, file_of, load_images, write_images
from csd_core.data.sources.protocol import Batch, Rejection, Source, SourceSplit
from csd_core.data.tables import Strings, read_table, write_table
from csd_core.data.thumbnails import ThumbnailWriter
from csd_core.records.stages import ImageForm, SourceRecord
from csd_core.system.atomic import atomic_file, atomic_folder
from csd_core.system.errors import ArtifactError, DataError

ITEMS, REJECTED, RECORD = "items.parquet", "rejected.parquet", "source.json"
REASONS_SHOWN = 5


_DUPLICATE = "duplicate of "
_OTHER = ', which is of class "'
_TWICE = ": the same image cannot be in two classes"
"""How reasons begin, go on and end by which copies are told apart."""


class LeftOut(NamedTuple):
    """A file that is not in a canonical set.

    Attributes:
        path: Relative to the source.
        reason: Why.
        kind: unusable; copy: of an image of the same class, which is harmless; conflict: of one in another class.
        original: Path of the image that it is a copy of.
    """

    path: str
    reason: str
    kind: Literal["unusable", "copy", "conflict"]
    original: str | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CanonicalSet:
    """A canonical set as it is read.

    Attributes:
        record: What it is.
        images: (N, H, W, C) uint8, read as they are asked for.
        ids: (N,) sha256 of the pixels in hex, unique.
        labels: (N,) class names.
        source_splits: (N,) train, test, or empty where the source has no test set.
        paths: (N,) unique names in the source, ascending.
    """

    record: SourceRecord
    images: Images
    ids: Strings
    labels: Strings
    source_splits: Strings
    paths: Strings


def load_source(folder: Path) -> CanonicalSet:
    """Open a canonical set.

    Raises:
        ArtifactError: if a file is missing or damaged, or they do not belong together.
    """
    record = SourceRecord.load(folder / RECORD)
    images = load_images(folder)
    columns = read_table(folder / ITEMS, ("id", "label", "source_split", "path"))
    if not record.images == len(images) == len(columns["id"]):
        raise ArtifactError(
            f"{folder}: the record counts {record.images} images, {file_of(images)} has {len(images)}, {ITEMS} "
            f"{len(columns['id'])}; ingest it again"
        )
    return CanonicalSet(
        record=record,
        images=images,
        ids=columns["id"],
        labels=columns["label"],
        source_splits=columns["source_split"],
        paths=columns["path"],
    )


def read_rejected(file: Path) -> tuple[LeftOut, ...]:
    """Return what a canonical set leaves out, by path.

    Args:
        file: Its rejected.parquet, or the list of a run that had too many.

    Raises:
        ArtifactError: if it is missing or damaged.
    """
    columns = read_table(file, ("path", "reason"))
    rejected = zip(columns["path"].tolist(), columns["reason"].tolist(), strict=True)
    return tuple(left_out(Rejection(path, reason)) for path, reason in rejected)


def left_out(rejection: Rejection) -> LeftOut:
    """Return what a rejection's reason says."""
    return LeftOut(rejection.path, rejection.reason, _kind(rejection.reason), _original(rejection.reason))


def _kind(reason: str) -> Literal["unusable", "copy", "conflict"]:
    if not reason.startswith(_DUPLICATE):
        return "unusable"
    return "conflict" if reason.endswith(_TWICE) else "copy"


def _original(reason: str) -> str | None:
    kind, path = _kind(reason), reason.removeprefix(_DUPLICATE)
    return None if kind == "unusable" else path if kind == "copy" else path.rpartition(_OTHER)[0]


def write_source(
    target: Path,
    source: Source,
    *,
    name: str,
    form: ImageForm,
    max_rejected: int,
    complaints: Path,
    store: Store = "raw",
    thumbnails: int | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> SourceRecord:
    """Read a source once and write its canonical set, a batch in memory at a time.

    Args:
        target: Folder to write, whole or not at all.
        source: Whose images.
        name: Its key in params.yaml.
        form: What every image becomes.
        max_rejected: More unusable files than this are an error. A copy of an image in another class counts, for one
            of the two labels is wrong; a copy within a class does not.
        complaints: Where to list the rejected files in that case.
        store: How images are stored.
        thumbnails: Longer side of the thumbnails in pixels; None makes none.
        advance: Told how many files were done since it was last told.

    Raises:
        DataError: if too many files are unusable, or none is usable.
    """
    items = Intake()
    with atomic_folder(target) as folder:
        shape = (form.size, form.size, form.channels)
        with write_images(folder, shape, store) as writer, ThumbnailWriter(folder) as pictures:
            for batch in source.batches(form, thumbnails):
                new = items.take(batch)
                if len(new):
                    writer.append(batch.images[new], items.ids[-len(new) :])
                if len(new) and batch.thumbnails:
                    pictures.append(items.ids[-len(new) :], [batch.thumbnails[row] for row in new])
                advance(len(batch.paths) + len(batch.rejected))
        _check(items, name=name, max_rejected=max_rejected, complaints=complaints)
        write_table(
            folder / ITEMS,
            {"id": items.ids, "label": items.labels, "source_split": items.source_splits, "path": items.paths},
        )
        _write_rejected(folder / REJECTED, items.rejected + items.duplicates + items.conflicts)
        record = SourceRecord(
            name=name,
            kind=source.kind,
            images=len(items.ids),
            rejected=len(items.rejected),
            duplicates=len(items.duplicates) + len(items.conflicts),
            classes=order_classes(items.labels, "natural", seed=0),
        )
        record.save(folder / RECORD)
    complaints.unlink(missing_ok=True)
    return record


@dataclass(kw_only=True, eq=False)
class Intake:
    """The rows so far, and what was left out: how ingest takes images, and how an inspection counts them.

    Attributes:
        ids: Hashes of the pixels.
        labels: Class names.
        source_splits: Sets of the source.
        paths: In the source.
        rejected: Files without an image.
        duplicates: Copies within a class.
        conflicts: Copies in another class.
    """

    ids: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    source_splits: list[SourceSplit] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)
    duplicates: list[Rejection] = field(default_factory=list)
    conflicts: list[Rejection] = field(default_factory=list)
    _rows: dict[str, int] = field(default_factory=dict)
    _last: str = ""

    def take(self, batch: Batch) -> npt.NDArray[np.intp]:
        """Add the images that are new; returns their positions in the batch."""
        self.rejected.extend(batch.rejected)
        new: list[int] = []
        for position, (image, label, source_split, path) in enumerate(
            zip(batch.images, batch.labels, batch.source_splits, batch.paths, strict=True)
        ):
            if path <= self._last:
                raise ValueError(f"{path} comes after {self._last}; a source gives its items by ascending path")
            self._last = path
            identity = hashlib.sha256(image.data).hexdigest()
            row = self._rows.setdefault(identity, len(self.ids))
            if row < len(self.ids):
                copies = self.duplicates if label == self.labels[row] else self.conflicts
                copies.append(Rejection(path, self._why(row, label)))
                continue
            self.ids.append(identity)
            self.labels.append(label)
            self.source_splits.append(source_split)
            self.paths.append(path)
            new.append(position)
        return np.array(new, np.intp)

    def _why(self, row: int, label: str) -> str:
        first, other = self.paths[row], self.labels[row]
        return _DUPLICATE + (first if label == other else f'{first}{_OTHER}{other}"{_TWICE}')


def _check(items: Intake, *, name: str, max_rejected: int, complaints: Path) -> None:
    """Refuse a set with too many bad files, or without a good one; their list outlives the refusal."""
    bad = sorted(items.rejected + items.conflicts)
    if items.ids and len(bad) <= max_rejected:
        return
    with atomic_file(complaints) as partial:
        _write_rejected(partial, bad)
    shown = [f"{path} {reason}" for path, reason in bad[:REASONS_SHOWN]]
    more = len(bad) - len(shown)
    details = "; ".join(shown) + (f"; and {more} more" if more else "")
    if items.ids:
        twice = f" ({len(items.conflicts)} are copies of an image in another class)" if items.conflicts else ""
        raise DataError(
            f"source {name}: {len(bad)} files are unusable{twice}, data.max_rejected allows {max_rejected}; fix or "
            f"remove them (`csd sources rejected {name}` lists all) or allow more: {details}"
        )
    raise DataError(f"source {name}: no usable image" + (f": {details}" if shown else "; add images to it"))


def _write_rejected(path: Path, rejected: list[Rejection]) -> None:
    rows = sorted(rejected)
    write_table(path, {"path": [row.path for row in rows], "reason": [row.reason for row in rows]})
