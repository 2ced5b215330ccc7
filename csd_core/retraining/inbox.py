"""The inbox: batches of new images, put there by whoever collects them.

    <inbox>/<batch>/<class>/…image files…
    <inbox>/<batch>/_READY                   written last; until then the batch is left alone

A listing opens no file. Whoever may write to the inbox is a stranger: a batch with links, with paths that lead out of
it, or with anything else that makes no images is named with its problems, and nothing of it is copied.
"""

import hashlib
import shutil
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from csd_core.data.sources.folder import open_folder
from csd_core.data.sources.protocol import Rejection
from csd_core.params.production import InboxParams
from csd_core.records.stages import Digest, ImageForm
from csd_core.retraining.contents import READY, Piece, contents_of, digest_of, is_litter, is_usable
from csd_core.retraining.set_aside import SetAside, notes
from csd_core.retraining.storage import Storage, open_storage
from csd_core.retraining.unusable_files import UnusableFile, pictured
from csd_core.system.errors import DataError, ParamsError
from csd_core.system.names import printable
from csd_core.workspace import Workspace

__all__ = ["READY", "Examination", "Inbox", "InboxBatch", "examine", "look_into"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxBatch:
    """One batch as one listing shows it.

    Attributes:
        name: Of its folder, with what cannot be printed escaped.
        classes: Class, in Unicode's composed form (NFC) -> files that may be images.
        digest: sha256 over the paths and sizes of these files.
        ready_since: When the marker was written, UTC; None while the batch is half-written.
        problems: Why it cannot be taken at all.
        aside: What a person set aside of it; `classes` and `digest` are without classes that were, for the whole batch
            with all.
    """

    name: str
    classes: Mapping[str, int]
    digest: Digest
    ready_since: datetime | None
    problems: tuple[str, ...]
    aside: SetAside | None = None

    @property
    def images(self) -> int:
        """Files that may be images."""
        return sum(self.classes.values())

    @property
    def left_out(self) -> tuple[str, ...]:
        """Classes that are set aside, where others of the batch are not."""
        return (self.aside.classes if self.aside else None) or ()


class Inbox:
    """Where batches arrive.

    Attributes:
        uri: As params.yaml has it.
    """

    def __init__(self, storage: Storage, *, uri: str, aside: Mapping[str, SetAside]) -> None:
        self.uri = uri
        self._storage = storage
        self._aside = aside

    @classmethod
    def of(cls, workspace: Workspace, settings: InboxParams) -> "Inbox":
        """Return the inbox that params.yaml names: a folder beside it or anywhere, or an address that fsspec knows.

        Raises:
            ParamsError: if nothing knows such addresses.
            DataError: if it cannot be opened.
            ArtifactError: if a note on what is set aside is damaged.
        """
        return cls(open_storage(settings.uri, workspace), uri=settings.uri, aside=notes(workspace))

    def inbox_batches(self) -> tuple[InboxBatch, ...]:
        """Return all batches, by name, from one listing; a missing inbox is an empty one.

        Raises:
            DataError: if it cannot be listed.
        """
        batches: defaultdict[str, list[Piece]] = defaultdict(list)
        for entry in self._storage.entries():
            batch, *parts = entry.path.split("/")
            batches[batch].append(Piece(parts, entry))
        found = [
            _inbox_batch(name, pieces, self._aside.get(name))
            for name, pieces in batches.items()
            if not is_litter(name, pieces)
        ]
        return tuple(sorted(found, key=lambda inbox_batch: inbox_batch.name))

    def fetch(self, inbox_batch: InboxBatch, target: Path) -> None:
        """Copy a batch to target/<class>/<batch>/<rest of the path>: as it was listed, or nothing.

        Classes that are set aside are left out.

        Raises:
            DataError: if it is not ready, cannot be taken, or changed since it was listed or while it was copied.
        """
        if inbox_batch.problems or inbox_batch.ready_since is None:
            why = "; ".join(inbox_batch.problems) or f"it has no {READY} yet"
            raise DataError(f"batch {inbox_batch.name} in {self.uri} cannot be taken: {why}")
        entries = self._storage.entries(inbox_batch.name)
        contents = contents_of([Piece(entry.path.split("/")[1:], entry) for entry in entries]).without(
            inbox_batch.left_out
        )
        self._refuse_change(inbox_batch, contents.sizes, contents.problems)
        places = {path: _place(target, inbox_batch.name, path) for path in contents.files}
        _remove(target, inbox_batch.name)  # what a killed run left of it
        whole = False
        try:
            self._storage.copy({entry.path: places[path] for path, entry in contents.files.items()})
            copied = {path: place.stat().st_size for path, place in places.items() if place.is_file()}
            self._refuse_change(inbox_batch, copied, ())
            whole = True
        finally:
            if not whole:
                _remove(target, inbox_batch.name)

    def mark_ready(self, name: str) -> InboxBatch:
        """Write a batch's marker, unless it has one.

        Returns:
            The batch, ready.

        Raises:
            ParamsError: if there is no such batch.
            DataError: if it cannot be taken as it is, or the marker cannot be written.
        """
        inbox_batch = self._named(name)
        if inbox_batch.problems:
            raise DataError(f"batch {name} in {self.uri} cannot be taken: {'; '.join(inbox_batch.problems)}")
        if inbox_batch.ready_since is not None:
            return inbox_batch
        self._storage.mark(f"{name}/{READY}")
        return self._named(name)

    def _named(self, name: str) -> InboxBatch:
        inbox_batches = self.inbox_batches()
        for inbox_batch in inbox_batches:
            if inbox_batch.name == name:
                return inbox_batch
        there = ", ".join(inbox_batch.name for inbox_batch in inbox_batches) or "none"
        raise ParamsError(f"batch {printable(name)}: {self.uri} holds no files of it; batches there: {there}")

    def _refuse_change(self, inbox_batch: InboxBatch, sizes: Mapping[str, int], problems: tuple[str, ...]) -> None:
        if problems or digest_of(sizes) != inbox_batch.digest:
            raise DataError(
                f"batch {inbox_batch.name} in {self.uri} changed while it was taken; its sender must write {READY} "
                "last and leave the batch alone from then on; it is tried again next time"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """What the files of a cut turned out to be.

    Attributes:
        usable: Class -> images that could be decoded.
        rejected: All other files, copies of an image in another class among them.
        shown: The first of those, with pictures.
        labels: sha256 of an image's pixels -> its class.
    """

    usable: Mapping[str, int]
    rejected: tuple[Rejection, ...]
    shown: tuple[UnusableFile, ...]
    labels: Mapping[str, str]

    def problem(self, tolerated: int) -> str | None:
        """Return why a batch cannot be used; None where it can.

        Args:
            tolerated: Unusable files that are left out (`data.max_rejected`).
        """
        count, usable = len(self.rejected), sum(self.usable.values())
        if count <= tolerated and usable:
            return None
        first = f" ({self.rejected[0].path}: {self.rejected[0].reason})" if count else ""
        return f"{count:,} of its {count + usable:,} files are no usable images{first}"


def look_into(inbox: Inbox, inbox_batch: InboxBatch, form: ImageForm) -> Examination:
    """Decode every file of a batch that is ready; nothing of it is kept.

    Raises:
        DataError: if it cannot be taken, or changed since it was listed.
    """
    with TemporaryDirectory(prefix="csd-batch-") as folder:
        inbox.fetch(inbox_batch, Path(folder))
        return examine(Path(folder), form, {})


def examine(folder: Path, form: ImageForm, known: Mapping[str, str]) -> Examination:
    """Decode every file of a fetched cut, as ingest will.

    Args:
        folder: Of class folders.
        form: That images must take.
        known: sha256 of the pixels of other images of the same cut -> their class.

    Raises:
        DataError: if the folder is missing.
    """
    usable: Counter[str] = Counter()
    rejected: list[Rejection] = []
    labels: dict[str, str] = {}
    for batch in open_folder(folder, "classes").batches(form):
        rejected += batch.rejected
        for image, label, path in zip(batch.images, batch.labels, batch.paths, strict=True):
            identity = hashlib.sha256(image.data).hexdigest()
            other = known.get(identity) or labels.setdefault(identity, label)
            if other == label:
                usable[label] += 1
            else:
                rejected.append(Rejection(path, f'is also in class "{other}": the same image cannot be in two classes'))
    shown = tuple(pictured(folder, rejected))
    return Examination(usable=dict(usable), rejected=tuple(rejected), shown=shown, labels=labels)


def _inbox_batch(name: str, pieces: list[Piece], aside: SetAside | None) -> InboxBatch:
    contents = contents_of(pieces)
    if aside and aside.digest != digest_of(contents.sizes):
        aside = None  # its sender changed it since
    contents = contents.without((aside.classes if aside else None) or ())
    misnamed = "name it with at most 64 letters, digits, dots, - and _, with no dot in front"
    return InboxBatch(
        name=printable(name),
        classes=dict(Counter(path.split("/", 1)[0] for path in contents.files)),
        digest=digest_of(contents.sizes),
        ready_since=contents.marker.written if contents.marker else None,
        problems=contents.problems if is_usable(name) else (misnamed, *contents.problems),
        aside=aside,
    )


def _place(target: Path, batch: str, path: str) -> Path:
    label, rest = path.split("/", 1)
    return target / label / batch / rest


def _remove(target: Path, batch: str) -> None:
    for left in target.glob(f"*/{batch}"):
        shutil.rmtree(left)
