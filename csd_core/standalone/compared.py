"""What the gate compares: two models, each at hand as an ONNX file or known by vectors, and the items between them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from csd_core.records.stages import ImageForm
from csd_core.retrieval.embedder import Embedder
from csd_core.retrieval.metrics import Bools, Floats, Ints
from csd_core.standalone.collection import Collection, read_collection, read_labelled
from csd_core.standalone.own_gallery import ItemsRecord, OwnGallery
from csd_core.standalone.pool import AnyModel
from csd_core.standalone.vectors.cache import VectorCache
from csd_core.standalone.vectors.given import GivenVectors, read_given
from csd_core.standalone.vectors.labels import Labels, read_columns, read_labels, unlabelled
from csd_core.standalone.vectors.pairs import read_pairs
from csd_core.standalone.vectors.source import open_vectors
from csd_core.system.console import echo
from csd_core.system.errors import CompatibilityError, DataError, ParamsError
from csd_core.upgrade.sampling import evenly

SAMPLE = 16
"""Items that are embedded to see whether given vectors are those of the model at hand."""

NO_IMAGES = ImageForm(size=1, channels=1, resize="squash")
"""Form of items where neither model is at hand; never written."""

SAME = 0.99
"""Least median cosine of these; a vector that was stored in bytes keeps it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Materials:
    """Files that a command was given.

    Attributes:
        old: ONNX file of the active model, in csd's form; None where its vectors stand for it.
        new: The candidate's, likewise.
        images: Folder of images; None where no image is needed, or where the labels' paths say it all.
        labels: Table of ids and classes; None takes the classes from the folder's folders.
        old_vectors: What the active model made of labelled items: what is stored.
        new_vectors: What the candidate made of them.
        pairs: Table of query and item that should match, in place of classes.
        id_column: Column of ids in labels and vectors.
        cache: Folder in which vectors are kept between commands; None keeps none.
    """

    old: Path | None = None
    new: Path | None = None
    images: Path | None = None
    labels: Path | None = None
    old_vectors: Path | None = None
    new_vectors: Path | None = None
    pairs: Path | None = None
    id_column: str = "id"
    cache: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Compared:
    """Two models and N items that either is at hand for, or has vectors of.

    Attributes:
        old: The active model.
        new: The candidate.
        own: The gallery that was given; None makes one of the items.
        items: What ids mean.
        forms: All forms of images that are needed; empty where none is.
        collection: The items.
        stored: (N,) those whose old vectors were given; None where none were.
        cache: Vectors that are known.
    """

    old: AnyModel
    new: AnyModel
    own: OwnGallery | None
    items: ItemsRecord
    forms: frozenset[ImageForm]
    collection: Collection
    stored: Bools | None
    cache: VectorCache


def read_compared(materials: Materials, *, gallery: Path | None, scratch: Path) -> Compared:
    """Read models, labels, vectors and images.

    Args:
        materials: What was given.
        gallery: Folder of the gallery; None for none.
        scratch: An empty folder with room for the decoded images; it must outlive the answer.

    Raises:
        CsdError: if something is missing, unusable or does not belong together.
    """
    _refuse_gaps(materials, gallery)
    at_hand = tuple(Embedder.load(file) if file else None for file in (materials.old, materials.new))
    labels: Labels | None = None
    given: tuple[GivenVectors | None, GivenVectors | None] = (None, None)
    if materials.labels or materials.old_vectors or materials.new_vectors:
        labels, given = _labelled(materials, _items(materials), at_hand)
    old, new = (_model(model, vectors, labels) for model, vectors in zip(at_hand, given, strict=True))
    own = None
    if gallery and materials.old and isinstance(old, Embedder):
        own = OwnGallery.load(gallery, model=old, file=materials.old)
    known = own.items if own else ItemsRecord(form=_form(old, new), best_own_gallery={})
    lacking = any(
        model and not (vectors and vectors.found.all()) for model, vectors in zip(at_hand, given, strict=True)
    )
    if labels and not lacking and not own:
        forms, collection = frozenset[ImageForm](), read_labelled(labels)
    else:
        forms = frozenset(
            {known.form, *(each.metadata.form for each in at_hand if each), *(forms_of(own) if own else ())}
        )
        collection = read_collection(
            _root(materials), ids_in=known.form, forms=forms, scratch=scratch / "images", labels=labels
        )
    cache = VectorCache(folder=materials.cache, form=known.form if forms else None)
    stored = _handed_over(cache, collection, labels, ((old, given[0]), (new, given[1]))) if labels else None
    return Compared(
        old=old, new=new, own=own, items=known, forms=forms, collection=collection, stored=stored, cache=cache
    )


def forms_of(own: OwnGallery) -> Iterable[ImageForm]:
    """Return the images that a gallery's retained models take."""
    return (Embedder.load(path).metadata.form for path in own.lineage.models.values())


def _refuse_gaps(materials: Materials, gallery: Path | None) -> None:
    """Refuse what cannot be compared, whatever the files hold."""
    for name, model, vectors in (
        ("old", materials.old, materials.old_vectors),
        ("new", materials.new, materials.new_vectors),
    ):
        if not model and not vectors:
            raise ParamsError(f"no {name} model; give its ONNX file, or vectors that it made (--{name}-vectors)")
    if gallery and (materials.old_vectors or not materials.old):
        raise ParamsError("--gallery: has the old vectors, and needs the old model; leave --old-vectors out, give OLD")
    if materials.pairs and not (materials.labels or materials.old_vectors or materials.new_vectors):
        raise ParamsError("--pairs: name items by ids; add --labels with the columns id and path, or vectors")
    if not (materials.images or materials.labels or (materials.old_vectors and materials.new_vectors)):
        raise ParamsError("no images; add --images with a folder for each class, or --labels with their paths")


def has_classes(materials: Materials) -> bool:
    """Return whether something says what is right: pairs, a column of classes, or folders of images."""
    if materials.pairs:
        return True
    if materials.labels:
        return "class" in read_columns(materials.labels)
    return not (materials.old_vectors or materials.new_vectors)


def _items(materials: Materials) -> Labels:
    """Return the items by their table of labels, or by the vectors; their classes by pairs, where there are some."""
    if materials.labels:
        labels = read_labels(materials.labels, id_column=materials.id_column, classes=False)
    else:
        file = materials.old_vectors or materials.new_vectors or Path()
        source = open_vectors(file, id_column=materials.id_column)
        labels = unlabelled(file, np.concatenate([ids for ids, _ in source.batches()]))
    if not materials.pairs:
        return labels
    classes, asks = read_pairs(materials.pairs, labels.ids)
    return replace(labels, classes=classes, asks=asks)


def _labelled(
    materials: Materials, labels: Labels, at_hand: Sequence[Embedder | None]
) -> tuple[Labels, tuple[GivenVectors | None, GivenVectors | None]]:
    """Return the labelled items that both models can have a vector of, and the vectors that were given."""
    files = (materials.old_vectors, materials.new_vectors)
    old, new = (
        read_given(open_vectors(file, id_column=materials.id_column, ids=labels.ids), labels.ids, name=str(file))
        if file
        else None
        for file in files
    )
    usable = np.ones(len(labels), np.bool_)
    for file, vectors, model in ((files[0], old, at_hand[0]), (files[1], new, at_hand[1])):
        if vectors and not model:
            usable &= vectors.found
        if vectors and vectors.others:
            echo(f"{file}: {vectors.others:,} vectors have no label; they are not measured")
    if not usable.any():
        raise DataError(f"{labels.file}: no item has a vector of both models; the two files share no labelled id")
    if not usable.all():
        echo(f"{labels.file}: {int((~usable).sum()):,} items have no vector and are left out")
    rows = np.flatnonzero(usable)
    return labels.take(rows), (old and old.take(rows), new and new.take(rows))


def _model(at_hand: Embedder | None, given: GivenVectors | None, labels: Labels | None) -> AnyModel:
    if at_hand:
        return at_hand
    if not given or not labels:
        raise ParamsError("a model is known by nothing; give its ONNX file or its vectors, with labels")
    return given.model(labels.ids)


def _form(old: AnyModel, new: AnyModel) -> ImageForm:
    """Return the form whose pixels name the items, where no gallery says."""
    return next((each.metadata.form for each in (old, new) if isinstance(each, Embedder)), NO_IMAGES)


def _root(materials: Materials) -> Path:
    if materials.images:
        return materials.images
    return (materials.labels or Path()).parent


def _handed_over(
    cache: VectorCache,
    collection: Collection,
    labels: Labels,
    sides: Sequence[tuple[AnyModel, GivenVectors | None]],
) -> Bools | None:
    """Put given vectors where they are looked up; return (N,) items of whose old vectors some were given."""
    place = {identity: row for row, identity in enumerate(labels.ids.tolist())}
    rows = np.array([place[identity] for identity in collection.items.ids.tolist()], np.intp)
    for model, given in sides:
        if given:
            mine = np.flatnonzero(given.found[rows])
            if isinstance(model, Embedder) and collection.pixels:
                _refuse_others(model, collection, given.vectors[rows], mine)
            cache.give(model.digest, collection.keys[mine], given.vectors[rows[mine]])
    stored = sides[0][1]
    return stored.found[rows] if stored else None


def _refuse_others(model: Embedder, collection: Collection, vectors: Floats, rows: Ints) -> None:
    """Embed a few of the items, so that vectors of another model or other preprocessing are not taken for its own."""
    some = rows[evenly(len(rows), SAMPLE)]
    if not len(some):
        return
    made = model(collection.pixels[model.metadata.form][some])
    if made.shape[1] != vectors.shape[1]:
        raise CompatibilityError(
            f"vectors of {vectors.shape[1]} dimensions were given, the model makes {made.shape[1]}"
        )
    cosine = float(np.median(np.einsum("nd,nd->n", made, vectors[some])))
    if not cosine >= SAME:
        raise CompatibilityError(
            f"the vectors given are not what model {model.digest[:12]} makes of the images: median cosine "
            f"{cosine:.3f} of {len(some)}; find the preprocessing with `csd upgrade wrap --verify`, or leave "
            "the model out"
        )
