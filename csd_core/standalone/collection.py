"""A folder of images for the gate: decoded once, as ingest decodes them, in the form of each model.

N items; an item's id is the hash of its pixels in one form, which a gallery keeps for good: so models that take images
of other sizes know the same items.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from csd_core.data.canonical import CanonicalSet, load_source, write_source
from csd_core.data.encoded import Images
from csd_core.data.npy import map_images, write_rows
from csd_core.data.pool import ItemPool
from csd_core.data.shards import Shard
from csd_core.data.sources.folder import ImageFolder, open_folder
from csd_core.data.tables import Strings, read_table
from csd_core.engine.pace import Rows
from csd_core.engine.processes import LocalEngine
from csd_core.engine.work import Engine
from csd_core.records.stages import ImageForm, ShardRecord
from csd_core.retrieval.embedder import Embedder
from csd_core.retrieval.gallery import UNIT_TOLERANCE, Provenance
from csd_core.retrieval.lineage import Embeds, Lineage
from csd_core.system.console import echo, progress
from csd_core.system.errors import CompatibilityError, DataError

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.intp]

SHOWN = 5
"""Unusable files that are named."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Collection:
    """The images of a folder.

    Attributes:
        root: The folder.
        items: Ids, class names and paths.
        pixels: Form -> (N, H, W, C) uint8 of the items, memory-mapped.
    """

    root: Path
    items: CanonicalSet
    pixels: Mapping[ImageForm, Images]

    def pool(
        self,
        *,
        splits: Strings,
        tasks: Strings,
        engine: Engine = LocalEngine(),  # noqa: B008 - frozen
    ) -> "CollectionPool":
        """Return the items in their roles.

        Args:
            splits: (N,) train, select, gate or test.
            tasks: (N,) what each item came with.
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
        )
        return CollectionPool(shards=(shard,), engine=engine, came_with=tasks, pixels=self.pixels)


@dataclass(frozen=True, kw_only=True, eq=False)
class CollectionPool(ItemPool):
    """Items whose images are at hand in several forms; each model is given its own.

    Attributes:
        came_with: (N,) tasks.
        pixels: Form -> (N, H, W, C) uint8.
    """

    came_with: Strings
    pixels: Mapping[ImageForm, Images]

    @property
    def tasks(self) -> Strings:
        """(N,) what each item came with."""
        return self.came_with

    def reader(self, positions: Ints, embedder: Embeds) -> Callable[[slice], Pixels]:
        """Return what reads the images at some of the positions, in the form that an embedder takes."""
        images = self.pixels[form_of(embedder)]
        return lambda some: images[positions[some]]

    def embed(self, positions: Ints, embedder: Embeds, *, report: Rows | None = None) -> Floats:
        """Return (len(positions), D) vectors, the same whoever embeds; few images are in memory at a time.

        Raises:
            CompatibilityError: if a vector is zero or not finite.
        """
        vectors = super().embed(positions, embedder, report=report)
        squares = np.einsum("nd,nd->n", vectors, vectors)
        wrong = np.flatnonzero(~(np.abs(squares - 1) <= 2 * UNIT_TOLERANCE))
        if len(wrong):
            item = self.ids[positions[wrong[0]]]
            raise CompatibilityError(
                f"{len(wrong)} of {len(positions)} images get a vector of length 0 or one that is not finite, such as "
                f"item {item[:12]}; such items cannot be searched, look at the model's weights and preprocessing"
            )
        return vectors


@dataclass(frozen=True, slots=True, kw_only=True)
class InForm:
    """An embedding function that knows the images it takes.

    Attributes:
        form: Of the images.
        embed: From images to vectors.
    """

    form: ImageForm
    embed: Embeds

    def __call__(self, images: Pixels, /) -> Floats:
        """Embed."""
        return self.embed(images)


class FormedLineage(Lineage):
    """A lineage whose models may take images of different forms."""

    def embed_as(
        self, provenance: Provenance, *, device: Literal["auto", "cpu", "cuda"] = "auto", threads: int = 0
    ) -> InForm | None:
        """What embeds images as the rows of a provenance were, with the form it takes; None where files are missing."""
        embed = super().embed_as(provenance, device=device, threads=threads)
        if embed is None:
            return None
        return InForm(form=Embedder.load(self.models[provenance.embedded_by]).metadata.form, embed=embed)


def form_of(embedder: Embeds) -> ImageForm:
    """Return the images that a model, or a generation of a lineage, takes."""
    if isinstance(embedder, Embedder):
        return embedder.metadata.form
    if isinstance(embedder, InForm):
        return embedder.form
    raise TypeError(f"{embedder} does not say which images it takes")


def read_collection(root: Path, *, ids_in: ImageForm, forms: Iterable[ImageForm], scratch: Path) -> Collection:
    """Decode a folder with a folder of images for each class.

    Args:
        root: The folder; its files are read, never written.
        ids_in: The form whose pixels name the items; images that are equal in it are one item.
        forms: All forms that are needed.
        scratch: An empty folder on a disk with room for the decoded images; it must outlive the collection.

    Raises:
        DataError: if the folder is missing, holds no usable image, or changes while it is read.
    """
    folder = open_folder(root, "classes")
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
                f"{root}: no usable image{_shown(complaints)}; give a folder of images for each class"
            ) from None
    items = load_source(scratch / "items")
    if record.duplicates:
        echo(f"{root}: {record.duplicates:,} images have the same pixels as another and are left out")
    if record.rejected:
        echo(f"{root}: {record.rejected:,} files are unusable and are left out")
    pixels: dict[ImageForm, Images] = {ids_in: items.images}
    for number, form in enumerate(sorted(set(forms) - {ids_in}, key=repr)):
        pixels[form] = _decoded(folder, items, form, scratch / f"form-{number}.npy")
    return Collection(root=root, items=items, pixels=pixels)


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
