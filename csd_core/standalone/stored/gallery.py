"""A gallery that lies in a store, as the gate sees it: its rows by the images that they are of.

G rows, D dimensions. A row's id is the path of its image below the folder, the image's name without ending where no
other has it, or the hash of its pixels.
"""

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from csd_core.data.canonical import CanonicalSet
from csd_core.data.tables import Strings
from csd_core.retrieval.embedder import Embedder
from csd_core.retrieval.gallery import Gallery
from csd_core.retrieval.lineage import Lineage
from csd_core.retrieval.metrics import Floats
from csd_core.standalone.collection import Collection, read_collection
from csd_core.standalone.own_gallery import ItemsRecord, OwnGallery
from csd_core.standalone.plan_folder import PlanFolder
from csd_core.standalone.roles import FIRST, Roles, assign_roles
from csd_core.standalone.stored.rows import PlannedRows
from csd_core.stores.protocol import Store
from csd_core.system.console import echo
from csd_core.system.errors import ArtifactError, CompatibilityError, DataError
from csd_core.upgrade.sampling import evenly

LOOKED_AT = 64
"""Rows whose image is embedded by the old model, to see whether it made their vectors."""
ALIKE, ENOUGH = 0.99, 0.9
"""Cosine from which a vector counts as made by the model, and the share of those looked at that must be."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoredGallery:
    """The rows of a store.

    Attributes:
        ids: (G,) the store's own.
        items: (G,) id of the row's image; empty where the folder lacks it.
        own: The rows with unit vectors; ids are those of the images, or the store's for a row without one or one whose
            image an earlier row has.
        seconds: That reading the rows took.
    """

    ids: Strings
    items: Strings
    own: OwnGallery
    seconds: float


def read_stored(
    store: Store, *, old: Path, images: Path, seed: int, previous: PlanFolder | None, scratch: Path
) -> StoredGallery:
    """Read a store's rows, and find their images.

    Args:
        store: The store.
        old: ONNX file of the model whose queries search it.
        images: Folder with a folder of images for each class.
        seed: Of the images' roles.
        previous: The plan that was applied last; None if the old model made every row.
        scratch: An empty folder with room for the decoded images.

    Raises:
        ArtifactError: if the store has no rows, or an upgrade is under way.
        CompatibilityError: if the old model did not make the vectors.
        DataError: if no row's image is in the folder.
    """
    held = store.held()
    if held and (previous is None or not held.active or PlannedRows.load(previous.folder).key != held.key):
        raise ArtifactError(
            f"{store.name}: holds upgrade {held.key}; finish it and give its plan with --previous, or remove what is "
            "not active with `csd upgrade clean`"
        )
    ids, vectors, seconds = _usable(store)
    embedder = Embedder.load(old)
    items = previous.record.items if previous else ItemsRecord(form=embedder.metadata.form, best_own_gallery={})
    collection = read_collection(
        images, ids_in=items.form, forms={items.form, embedder.metadata.form}, scratch=scratch / "stored"
    )
    of_row = images_of(ids, collection.items)
    if not of_row.any():
        raise DataError(
            f"{images}: has the image of none of the {len(ids):,} rows of {store.name}; an id is the path of an image "
            f"({collection.items.paths[0]}), its name without ending, or the hash of its pixels, not {ids[0]}"
        )
    roles = assign_roles(collection, gallery=None, new_classes=(), seed=seed)
    gallery = _gallery(ids, of_row, vectors, collection.items, roles, embedder, previous)
    _refuse_another_models(store, gallery, of_row, collection, roles, embedder)
    lineage = previous.lineage if previous else Lineage(models={}, adapters={})
    own = OwnGallery(gallery=gallery, items=items, lineage=lineage.extended(models=[old]))
    return StoredGallery(ids=ids, items=of_row, own=own, seconds=seconds)


def unit(vectors: Floats) -> Floats:
    """Return vectors of unit length; those that cannot have it are zero."""
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
        found = np.where(np.isfinite(lengths) & (lengths > 0), vectors / lengths, 0)
    return found.astype(np.float32)


def images_of(ids: Strings, items: CanonicalSet) -> Strings:
    """Return (G,) the id of each row's image; empty where there is none."""
    stems = [PurePosixPath(path).stem for path in items.paths.tolist()]
    times = Counter(stems)
    known = {stem: item for stem, item in zip(stems, items.ids.tolist(), strict=True) if times[stem] == 1}
    known |= dict(zip(items.paths.tolist(), items.ids.tolist(), strict=True))
    known |= {item: item for item in items.ids.tolist()}
    return np.array([known.get(each, "") for each in ids.tolist()], np.str_)


def _usable(store: Store) -> tuple[Strings, Floats, float]:
    """Return ids and unit vectors of the rows that can be searched, and the seconds that reading took."""
    start = time.perf_counter()
    batches = list(store.rows())
    seconds = time.perf_counter() - start
    if not batches:
        raise ArtifactError(f"{store.name}: has no vectors, so there is nothing to upgrade")
    widths = sorted({batch.vectors.shape[1] for batch in batches})
    if len(widths) > 1:
        raise CompatibilityError(f"{store.name}: has vectors of {widths} dimensions; `csd doctor` says more")
    ids, vectors = (
        np.concatenate([each.ids for each in batches]),
        unit(np.concatenate([each.vectors for each in batches])),
    )
    names, times = np.unique(ids, return_counts=True)
    if (times > 1).any():
        raise CompatibilityError(
            f"{store.name}: id {names[times > 1][0]} occurs {times[times > 1][0]} times; an upgrade goes by ids, so "
            "keep one row of each"
        )
    usable = vectors.any(axis=1)
    if not usable.all():
        echo(f"{store.name}: {int((~usable).sum()):,} rows have a vector of length 0 or one that is not finite")
    return ids[usable], vectors[usable], seconds


def _gallery(
    ids: Strings,
    of_row: Strings,
    vectors: Floats,
    items: CanonicalSet,
    roles: Roles,
    embedder: Embedder,
    previous: PlanFolder | None,
) -> Gallery:
    """Return the rows with what is known of their images and of how they came to be."""
    if previous is None and vectors.shape[1] != embedder.metadata.dimension:
        raise CompatibilityError(
            f"the store's vectors have {vectors.shape[1]} dimensions, the old model makes "
            f"{embedder.metadata.dimension}; give the model that made them"
        )
    by_id = np.argsort(items.ids)
    place = by_id[np.searchsorted(items.ids, of_row, sorter=by_id).clip(max=len(by_id) - 1)]
    found = of_row != ""
    first = np.zeros(len(ids), np.bool_)
    first[np.unique(of_row, return_index=True)[1]] = True
    digest = embedder.digest
    history = PlannedRows.load(previous.folder).after(ids) if previous else None
    made_by = np.full(len(ids), digest)
    return Gallery(
        ids=np.where(found & first, of_row, ids),
        labels=np.where(found, items.labels[place], ""),
        tasks=np.full(len(ids), FIRST),
        splits=np.where(found, roles.splits[place], "train"),
        embedded_by=history.embedded_by if history else made_by,
        adapters=history.adapters if history else np.full(len(ids), ""),
        spaces=history.spaces if history else made_by,
        vectors=vectors,
        query_model=digest,
        searchable_spaces=history.searchable_spaces if history else (digest,),
        scoring=history.scoring if history else (),
    )


def _refuse_another_models(
    store: Store, gallery: Gallery, of_row: Strings, collection: Collection, roles: Roles, embedder: Embedder
) -> None:
    """Embed some images: the old model must make the vectors that are stored.

    Raises:
        CompatibilityError: if it makes others.
    """
    mine = np.flatnonzero((of_row != "") & (gallery.embedded_by == embedder.digest) & (gallery.adapters == ""))
    mine = mine[evenly(len(mine), LOOKED_AT)]
    if not len(mine):
        return
    by_id = np.argsort(collection.items.ids)
    place = by_id[np.searchsorted(collection.items.ids, of_row[mine], sorter=by_id)]
    made = collection.pool(splits=roles.splits, tasks=roles.tasks).embed(place, embedder)
    stored = gallery.vectors[mine][:, : made.shape[1]]
    alike = np.einsum("nd,nd->n", made, stored) >= ALIKE
    if alike.mean() < ENOUGH:
        raise CompatibilityError(
            f"{store.name}: of {len(mine)} rows looked at, the old model makes the vector of {int(alike.sum())}; "
            "give the model and preprocessing that made them, or with --previous the plan that was applied last"
        )
