"""Vectors that a team gives: those of labelled items, of unit length, and a model that is known by them alone."""

import hashlib
import json
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from csd_core.data.tables import Strings
from csd_core.retrieval.metrics import Bools, Floats, Ints
from csd_core.standalone.vectors.source import VectorSource
from csd_core.system.console import echo
from csd_core.system.errors import CompatibilityError, DataError

UNIT = 1e-3
"""Largest deviation from length 1 that is not worth a word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorModel:
    """A model that is not at hand: its vectors are.

    Attributes:
        digest: Stands for the model; of its vectors.
        dimension: D.
    """

    digest: str
    dimension: int

    def __call__(self, images: npt.NDArray[np.uint8], /) -> Floats:
        """Embed nothing: there are no weights.

        Raises:
            CompatibilityError: always, for all that is asked of it must be known.
        """
        raise CompatibilityError(
            f"{len(images)} items have no vector of a model that is known by its vectors alone; give these, or its ONNX"
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GivenVectors:
    """Vectors of N wanted items.

    Attributes:
        found: (N,) which of them have one.
        vectors: (N, D) float32 of unit length; zeros where there is none.
        others: Rows that nobody wanted.
    """

    found: Bools
    vectors: Floats
    others: int

    def take(self, rows: Ints) -> "GivenVectors":
        """Return those of some of the items, in their order."""
        return GivenVectors(found=self.found[rows], vectors=self.vectors[rows], others=self.others)

    def model(self, ids: Strings) -> VectorModel:
        """Return what stands for the model that made them, known by ids (N,) and vectors."""
        content = hashlib.sha256(json.dumps(ids[self.found].tolist(), ensure_ascii=False).encode())
        content.update(np.ascontiguousarray(self.vectors[self.found]).data)
        return VectorModel(digest=content.hexdigest(), dimension=self.vectors.shape[1])


def read_given(source: VectorSource, wanted: Strings, *, name: str) -> GivenVectors:
    """Read the vectors of some items, a batch in memory at a time beside them.

    Args:
        source: Where they lie.
        wanted: (N,) ids.
        name: For messages.

    Raises:
        DataError: if none of the items has one, or one has two.
        CompatibilityError: if a vector is zero or not finite, or all point the same way.
    """
    place = {identity: row for row, identity in enumerate(wanted.tolist())}
    found = np.zeros(len(wanted), np.bool_)
    vectors = np.zeros((len(wanted), source.dimension), np.float32)
    example, read = "", 0
    for ids, batch in source.batches():
        read += len(ids)
        example = example or "".join(ids[:1].tolist())
        rows = np.array([place.get(identity, -1) for identity in ids.tolist()], np.intp)
        mine = rows >= 0
        rows, batch = rows[mine], batch[mine]  # noqa: PLW2901 - the others are nobody's
        if found[rows].any() or len(np.unique(rows)) < len(rows):
            twice = next(row for row in rows if found[row] or (rows == row).sum() > 1)
            raise DataError(f"{name}: id {wanted[twice]} occurs twice; give each item one vector")
        found[rows], vectors[rows] = True, batch
    if not found.any():
        such = (
            f"its ids are such as {example}, those of the labels such as {wanted[0]}" if example else "it has no rows"
        )
        raise DataError(
            f"{name}: has a vector of none of the {len(wanted):,} labelled items; {such}; name the right column with "
            "--id-column"
        )
    lengths = np.linalg.norm(vectors, axis=1)
    bad = np.flatnonzero(found & ~(np.isfinite(lengths) & (lengths > 0)))
    if len(bad):
        raise CompatibilityError(
            f"{name}: {len(bad)} vectors are zero or not finite, such as that of {wanted[bad[0]]}; leave them out"
        )
    if (np.abs(lengths[found] - 1) > UNIT).any():
        echo(f"{name}: vectors are not of unit length; they are compared by cosine")
    vectors[found] /= lengths[found, None]
    if found.sum() > 1 and np.ptp(vectors[found], axis=0).max() < UNIT:
        raise CompatibilityError(
            f"{name}: all {int(found.sum()):,} vectors point the same way, so no search can tell items apart; export "
            "them again"
        )
    return GivenVectors(found=found, vectors=vectors, others=read - int(found.sum()))
