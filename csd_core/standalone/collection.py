"""The items that the gate looks at: images decoded once, as ingest decodes them, in the form of each model.

N items. An item's id is that of a table of labels; without one it is the hash of its pixels in one form, which a
gallery keeps for good: so models that take images of other sizes know the same items.
"""

import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from csd_core.data.canonical import CanonicalSet, load_source, write_source
from csd_core.data.classes import order_classes
from csd_core.data.encoded import Images
from csd_core.data.npy import map_images, write_rows
from csd_core.data.shards import Shard
from csd_core.data.sources.decoding import ImageFile
from csd_core.data.sources.folder import ImageFolder, open_folder
from csd_core.data.tables import Strings, read_table
from csd_core.engine.processes import LocalEngine
from csd_core.engine.work import Engine
from csd_core.records.stages import ImageForm, ShardRecord, SourceRecord
from csd_core.retrieval.metrics import Bools
from csd_core.standalone.pool import CollectionPool, Pixels
from csd_core.standalone.vectors.cache import VectorCache
from csd_core.standalone.vectors.labels import Labels
from csd_core.system.console import echo, progress
from csd_core.system.errors import DataError

SHOWN = 5
"""Unusable files that are named."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Collection:
    """Labelled items, most often with images.

    Attributes:
        root: The folder of the images; of the labels where there are none.
        items: Ids, class names and paths.
        keys: (N,) hashes of the pixels, or ids where there are no images.
        pixels: Form -> (N, H, W, C) uint8 of the items, memory-mapped.
        groups: (N,) items of one group share a role and are no answer to each other; None where nobody says.
        tasks: (N,) what each item came with; None where nobody says.
        asks: (N,) items that pairs ask with; None where classes are known.
    """

    root: Path
    items: CanonicalSet
    keys: Strings
    pixels: Mapping[ImageForm, Images]
    groups: Strings | None = None
    tasks: Strings | None = None
    asks: Bools | None = None

    def pool(
        self,
        *,
        splits: Strings,
        tasks: Strings,
        cache: VectorCache | None = None,
        engine: Engine = LocalEngine(),  # noqa: B008 - frozen
    ) -> CollectionPool:
        """Return the items in their roles.

        Args:
            splits: (N,) train, select, gate or test.
            tasks: (N,) what each item came with.
            cache: Vectors that are known, and those to come; None knows none.
            engine: Who embeds many of them.
        """
        shard = Shard(
            record=ShardRecord(
                task=self.items.record.name,
                source=self.items.record.name,
                classes=self.items.record.classes,
                counts={},
                skipped=0,
                digest="",
            ),
            images=self.items.images,
            ids=self.items.ids,
            labels=self.items.labels,
            splits=splits,
            groups=None if self.groups is None else np.where(self.groups == "", self.items.ids, self.groups),
        )
        return CollectionPool(
            shards=(shard,),
            engine=engine,
            came_with=tasks,
            keys=self.keys,
            pixels=self.pixels,
            cache=cache or VectorCache(),
        )


def read_labelled(labels: Labels) -> Collection:
    """Return labelled items without images, in the order of their ids."""
    labels = labels.take(np.argsort(labels.ids, kind="stable"))
    record = SourceRecord(
        name=labels.file.name,
        kind="labels",
        images=len(labels),
        rejected=0,
        duplicates=0,
        classes=order_classes(labels.classes.tolist(), "natural", seed=0),
    )
    items = CanonicalSet(
        record=record,
        images=np.empty((len(labels), 0, 0, 0), np.uint8),
        ids=labels.ids,
        labels=labels.classes,
        source_splits=np.full(len(labels), ""),
        paths=labels.ids,
    )
    return Collection(
        root=labels.file.parent,
        items=items,
        keys=labels.ids,
        pixels={},
        groups=labels.groups,
        tasks=labels.tasks,
        asks=labels.asks,
    )


def read_collection(
    root: Path, *, ids_in: ImageForm, forms: Iterable[ImageForm], scratch: Path, labels: Labels | None = None
) -> Collection:
    """Decode a folder with a folder of images for each class, or the images that a table of labels names.

    Args:
        root: The folder; its files are read, never written.
        ids_in: The form whose pixels name the items; images that are equal in it are one item.
        forms: All forms that are needed.
        scratch: An empty folder on a disk with room for the decoded images; it must outlive the collection.
        labels: Paths in the folder, or absolute ones, and their classes; None takes them from the folders' names.

    Raises:
        DataError: if the folder is missing, holds no usable image, or changes while it is read.
    """
    folder = open_folder(root, "classes") if labels is None else _named_by(labels, root)
    for note in folder.notes:
        echo(f"{root}: {note}")
    complaints = scratch / "unusable.parquet"
    with _quiet_pillow(), progress(f"decode {root}", total=len(folder), unit="images") as meter:
        try:
            record = write_source(
                scratch / "items",
                folder,
                name=root.name,
                form=ids_in,
                max_rejected=len(folder),
                complaints=complaints,
                advance=meter.advance,
            )
        except DataError:
            raise DataError(
                f"{root}: no usable image{_shown(complaints)}; give a folder of images for each class, or a table of "
                "labels with their paths"
            ) from None
    items = load_source(scratch / "items")
    if record.duplicates:
        echo(f"{root}: {record.duplicates:,} images have the same pixels as another and are left out")
    if record.rejected:
        echo(f"{root}: {record.rejected:,} files are unusable and are left out")
    pixels: dict[ImageForm, Images] = {ids_in: items.images}
    for number, form in enumerate(sorted(set(forms) - {ids_in}, key=repr)):
        pixels[form] = _decoded(folder, items, form, scratch / f"form-{number}.npy")
    collection = Collection(root=root, items=items, keys=items.ids, pixels=pixels)
    if labels is None or labels.paths is None:
        return collection
    by_path = np.argsort(labels.paths, kind="stable")
    known = labels.take(by_path[np.searchsorted(labels.paths, items.paths, sorter=by_path)])
    return replace(
        collection, items=replace(items, ids=known.ids), groups=known.groups, tasks=known.tasks, asks=known.asks
    )


def _named_by(labels: Labels, root: Path) -> ImageFolder:
    """Return the images that a table names.

    Raises:
        DataError: if it has no paths, or one twice.
    """
    if labels.paths is None:
        raise DataError(f"{labels.file}: has no column path; add one with the path of each image below {root}")
    paths, counts = np.unique(labels.paths, return_counts=True)
    if (counts > 1).any():
        raise DataError(f"{labels.file}: path {paths[counts > 1][0]} occurs twice; give each image one row")
    files = (ImageFile(path, label, None) for path, label in zip(labels.paths, labels.classes, strict=True))
    return ImageFolder(root=root, files=tuple(sorted(files)), rejected=(), notes=())


def _shown(complaints: Path) -> str:
    if not complaints.is_file():
        return ""
    listed = read_table(complaints, ("path", "reason"))
    named = [f"{path} {reason}" for path, reason in zip(listed["path"], listed["reason"], strict=True)]
    more = f"; and {len(named) - SHOWN} more" if len(named) > SHOWN else ""
    return f" ({'; '.join(named[:SHOWN])}{more})" if named else ""


def _decoded(folder: ImageFolder, items: CanonicalSet, form: ImageForm, target: Path) -> Pixels:
    """Return (N, H, W, C) uint8 of the items in another form, in their order."""
    wanted = set(items.paths.tolist())
    workspace = tuple(file for file in folder.files if file.path in wanted)
    again = ImageFolder(root=folder.root, files=workspace, rejected=(), notes=())
    with (
        _quiet_pillow(),
        progress(f"decode {folder.root} again", total=len(workspace), unit="images") as meter,
        write_rows(target, (form.size, form.size, form.channels)) as rows,
    ):
        for batch in again.batches(form):
            if batch.rejected:
                bad = batch.rejected[0]
                raise DataError(f"{folder.root}: {bad.path} {bad.reason}, though it could be read before; try again")
            rows.append(batch.images)
            meter.advance(len(batch.images))
    return map_images(target)


@contextmanager
def _quiet_pillow() -> Iterator[None]:
    """What Pillow warns of is either harmless (odd metadata) or refused by decode (too many pixels)."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield
