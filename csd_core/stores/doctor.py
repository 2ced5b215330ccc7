"""What is wrong with the vectors of an index, from the vectors alone.

N rows, D dimensions. Sums run over all rows; what compares rows with each other looks at a sample.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from csd_core.stores.protocol import Floats, Rows
from csd_core.system.errors import CompatibilityError

Doubles = npt.NDArray[np.float64]

SAMPLE = 4000
"""Rows that are compared with each other."""
UNIT = 1e-3
"""Largest deviation from length 1 that rounding explains."""
DUPLICATES = 0.01
"""Share of rows that may have the vector of another row; photographs are taken twice."""
NARROW = 0.5
"""Mean cosine of two rows from which they lie in a narrow cone: the square of the length of the mean."""
FLAT = 0.05
"""Share of the dimensions that a space at least uses: the participation ratio (sum of variances)^2 / sum of squares."""
NEAREST = 10
HUBS = 3.0
"""Skewness of how often a row is among the 10 nearest of others, from which there are hubs (Radovanovic, 2010)."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong.

    Attributes:
        what: With figures.
        remedy: What to do.
    """

    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what}; {self.remedy}"


def examine(batches: Iterable[Rows], *, count: int) -> tuple[Finding, ...]:
    """Look at all rows.

    Args:
        batches: The rows that have a vector.
        count: Rows in all.
    """
    try:
        rows = list(batches)
    except CompatibilityError as error:
        return (Finding(str(error), "nothing else was looked at"),)
    ids = np.concatenate([each.ids for each in rows]) if rows else np.empty(0, np.str_)
    if not len(ids):
        return (Finding("no row has a vector", "index the images first"),)
    widths = sorted({each.vectors.shape[1] for each in rows})
    if len(widths) > 1:
        words = " and ".join(map(str, widths))
        return (Finding(f"vectors have {words} dimensions", "keep rows of each model in a column of their own"),)
    vectors = np.concatenate([each.vectors for each in rows])
    if not vectors.shape[1]:
        return (Finding("vectors have 0 dimensions", "embed the images again"),)
    finite = np.isfinite(vectors).all(axis=1)
    some = np.where(finite[:, None], vectors, 0)
    lengths = np.sqrt(np.einsum("nd,nd->n", some, some, dtype=np.float64))  # float32 overflows from 1e19
    usable = finite & (lengths > 0)
    return (
        *_missing(ids, count),
        *_unusable(ids, finite, usable),
        *_lengths(ids, lengths, usable),
        *_models(vectors, usable),
        *_equal(ids, vectors, usable),
        *_space(vectors[usable] / lengths[usable, None]),
    )


def _missing(ids: npt.NDArray[np.str_], count: int) -> Iterator[Finding]:
    if count > len(ids):
        yield Finding(f"{count - len(ids):,} of {count:,} rows have no vector", "embed them; no search finds them")
    twice = len(ids) - len(np.unique(ids))
    if twice:
        names, times = np.unique(ids, return_counts=True)
        yield Finding(
            f"{twice:,} ids occur again, such as {names[times > 1][0]}", "keep one row of each: an upgrade goes by ids"
        )


def _unusable(
    ids: npt.NDArray[np.str_], finite: npt.NDArray[np.bool_], usable: npt.NDArray[np.bool_]
) -> Iterator[Finding]:
    for wrong, what in ((~finite, "are not finite"), (finite & ~usable, "have length 0")):
        if wrong.any():
            yield Finding(
                f"{int(wrong.sum()):,} vectors {what}, such as that of {ids[wrong][0]}",
                "embed their images again, and look at the images if that does not help",
            )


def _lengths(ids: npt.NDArray[np.str_], lengths: Floats, usable: npt.NDArray[np.bool_]) -> Iterator[Finding]:
    wrong = usable & (np.abs(lengths - 1) > UNIT)
    if wrong.any():
        low, high = lengths[usable].min(), lengths[usable].max()
        yield Finding(
            f"{int(wrong.sum()):,} vectors are not of length 1 ({low:.3g} to {high:.3g}), such as that of "
            f"{ids[wrong][0]}",
            "search by cosine, not by inner product or distance, or divide each by its length",
        )


def _models(vectors: Floats, usable: npt.NDArray[np.bool_]) -> Iterator[Finding]:
    """Rows of a narrower model in a wider column end in zeros."""
    used = vectors.shape[1] - (vectors[:, ::-1] != 0).argmax(axis=1)
    widths, counts = np.unique(used[usable], return_counts=True)
    common = counts >= max(2, 0.001 * counts.sum())
    if common.sum() > 1:
        words = ", ".join(
            f"{number:,} of {width}" for width, number in zip(widths[common], counts[common], strict=True)
        )
        yield Finding(
            f"rows of several models: vectors end in zeros after different dimensions ({words})",
            "search each with its own model (serving.json of the plan), or backfill",
        )


def _equal(ids: npt.NDArray[np.str_], vectors: Floats, usable: npt.NDArray[np.bool_]) -> Iterator[Finding]:
    keys = np.ascontiguousarray(vectors[usable]).view(np.dtype((np.void, vectors.shape[1] * 4))).ravel()
    _, first, times = np.unique(keys, return_index=True, return_counts=True)
    again = len(keys) - len(first)
    if again > DUPLICATES * len(keys):
        most = int(times.argmax())
        yield Finding(
            f"{again:,} rows have the vector of another row; {int(times[most]):,} have that of "
            f"{ids[usable][first[most]]}",
            "remove copies of one image; if the images differ, the model or its preprocessing sees no difference",
        )


def _space(units: Floats) -> Iterator[Finding]:
    if len(units) <= NEAREST:
        return
    mean = units.mean(axis=0, dtype=np.float64)
    alike = float(mean @ mean)
    if alike > NARROW:
        yield Finding(
            f"the vectors lie in a narrow cone: two rows have a mean cosine of {alike:.2f}",
            "subtract the mean of the rows from rows and queries, then divide by the length; a threshold on the cosine "
            "tells little here",
        )
    chosen = np.linspace(0, len(units) - 1, min(SAMPLE, len(units))).round().astype(np.intp)
    some = units[chosen].astype(np.float64)
    variances = np.linalg.eigvalsh(np.atleast_2d(np.cov(some.T)))
    used = float(variances.sum() ** 2 / max(np.square(variances).sum(), np.finfo(np.float64).tiny))
    if used < max(2.0, FLAT * units.shape[1]):
        yield Finding(
            f"the space has collapsed: of {units.shape[1]} dimensions the rows use {used:.1f}",
            "look at the model's training (its loss pulls all classes together), not at the index",
        )
    near = some @ some.T
    np.fill_diagonal(near, -np.inf)
    found = np.bincount(np.argpartition(-near, NEAREST, axis=1)[:, :NEAREST].ravel(), minlength=len(some))
    skewness = float(((found - found.mean()) ** 3).mean() / max(found.std(), 1e-12) ** 3)
    if skewness > HUBS:
        yield Finding(
            f"hubs: how often a row is among the {NEAREST} nearest of {len(some):,} others has skewness "
            f"{skewness:.1f}, one is so of {found.max():,}",
            "subtract the mean of the rows, or let scores per row answer (cosine minus the row's mean to its nearest)",
        )
