"""What users would see while a backfill runs: old and new vectors lie in one gallery, and queries search both.

N items are queries and rows at once, row by row; D_old and D_new dimensions. Two ways to search a half-done gallery:

- *naive*: the candidate's query over whatever vector a row has;
- *merged*: each generation in its own space (the champion's query over old vectors, the candidate's over new ones),
  merged by calibrated similarity (after Seo et al., "Online Backfilling with No Regret for Large-Scale Image
  Retrieval", 2023, who train the models for it; `Calibration` needs none of that).

A hit counts as in `csd_core.retrieval.metrics`: own row left out, ties against us.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import numpy as np
import numpy.typing as npt

from csd_core.records.check import ServingPoint
from csd_core.retrieval.inputs import labels_of, vectors_of
from csd_core.retrieval.metrics import TIE, block_length
from csd_core.system.errors import CompatibilityError

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]

OUTERMOST = 1.01
"""Beyond any cosine of vectors that a gallery accepts as unit length."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Calibration:
    """Maps a cosine of one space to a scale that all spaces share: the share of queries it would stand out for.

    Quantile matching on what decides a merge, the most similar *wrong* row of a query: 0.99 says that only one query in
    a hundred meets a wrong row as similar as this. Two models' cosines differ in spread and in shape (features after a
    ReLU crowd near 1), so the scale takes no shape for granted; a logistic curve did worse on average over three
    upgrades, on `select` alone. Strictly increasing, so inside one space the order stays.

    Attributes:
        cosines: (J,) knots, rising, from -OUTERMOST to OUTERMOST.
        shares: (J,) of queries whose most similar wrong row is at most as similar, rising from 0 to 1.
    """

    cosines: Doubles
    shares: Doubles

    @classmethod
    def fit(cls, *, queries: npt.ArrayLike, rows: npt.ArrayLike, labels: npt.ArrayLike) -> Self:
        """Learn the scale of one space.

        Args:
            queries: (M, D) unit embeddings of items that are not measured later, of old and new classes alike.
            rows: (M, D) vectors of the same items as that space stores them.
            labels: (M,) their classes.

        Raises:
            CompatibilityError: if shapes do not fit or all items are of one class.
        """
        asked, stored, codes = _checked(queries, rows, labels)
        wrong = _best(asked, stored, codes=codes, positions=np.arange(len(stored))).wrong
        if not np.isfinite(wrong).all() or not len(wrong):
            raise CompatibilityError(
                f"similarities cannot be calibrated on {len(wrong)} items of {len(np.unique(codes))} classes: "
                "give at least two classes"
            )
        knots, counts = np.unique(wrong.astype(np.float64), return_counts=True)
        return cls(
            cosines=np.concatenate([[-OUTERMOST], knots, [OUTERMOST]]),
            shares=np.concatenate([[0.0], np.cumsum(counts) / (len(wrong) + 1), [1.0]]),
        )

    def __call__(self, cosines: npt.ArrayLike) -> Doubles:
        """Shares between 0 and 1, in the shape of `cosines`; -inf stays -inf."""
        given = np.asarray(cosines, np.float64)
        return np.where(given == -np.inf, -np.inf, np.interp(given, self.cosines, self.shares))


@dataclass(frozen=True, slots=True, eq=False)
class _Best:
    """The largest cosines of each query to right and to wrong rows, (..., N); -inf where there is no such row."""

    right: Floats
    wrong: Floats

    def running(self, *, backwards: bool) -> "_Best":
        """For each s, the best of segments 0..s, or of segments s..S where `backwards`; same shape (S, N)."""
        step = -1 if backwards else 1
        return _Best(*(np.maximum.accumulate(each[::step], axis=0)[::step] for each in (self.right, self.wrong)))


def simulate(
    *,
    queries_old: npt.ArrayLike,
    queries_new: npt.ArrayLike,
    rows_old: npt.ArrayLike,
    rows_new: npt.ArrayLike,
    labels: npt.ArrayLike,
    old: npt.ArrayLike,
    order: npt.ArrayLike,
    shares: Sequence[float],
    calibration_old: Calibration,
    calibration_new: Calibration,
) -> tuple[ServingPoint, ...]:
    """Recall@1 at some shares of a backfill.

    The rows that change hands between two shares are compared once, so the work is three searches whatever the number
    of shares; no more than a block of similarities is held.

    Args:
        queries_old: (N, D_old) the champion's embeddings of the items.
        queries_new: (N, D_new) the candidate's.
        rows_old: (N, D_old) what the gallery stores before; rows that are not `old` are not read.
        rows_new: (N, D_new) what it stores when all is done.
        labels: (N,) classes.
        old: (N,) rows that were in the gallery before; the others have their new vector from the start.
        order: positions of the old rows, each once; the first is embedded first.
        shares: Of the old rows, between 0 and 1.
        calibration_old: Of the champion's space, fitted on other items.
        calibration_new: Of the candidate's, likewise.

    Raises:
        CompatibilityError: if shapes do not fit, `order` is not the old rows each once, or a share is not in [0, 1].
    """
    asked_new, stored_new, codes = _checked(queries_new, rows_new, labels)
    was_old, sequence = np.asarray(old, np.bool_), np.asarray(order, np.intp)
    if was_old.shape != codes.shape or not np.array_equal(np.sort(sequence), np.flatnonzero(was_old)):
        raise CompatibilityError(
            f"a backfill of {int(was_old.sum())} old rows among {len(codes)} items, and an order of {len(sequence)}: "
            "give each old row once"
        )
    asked_old, stored_old, _ = _checked(queries_old, rows_old, labels, read=was_old)
    if any(not 0 <= share <= 1 for share in shares):
        raise CompatibilityError(f"shares are {list(shares)}, each must lie between 0 and 1")

    done = np.rint(np.asarray(shares, np.float64) * len(sequence)).astype(np.intp)  # (S,) rows re-embedded
    edges = np.unique([0, len(sequence), *done])  # (E,)
    segments = [sequence[begin:end] for begin, end in pairwise(edges)]  # E - 1 of them
    at = np.searchsorted(edges, done)  # (S,) the first segment that is still old

    # state e: segments before e are new, from e on they are old; (E, N) each
    nothing, fresh = [np.empty(0, np.intp)], [np.flatnonzero(~was_old)]
    in_new = _segments(asked_new, stored_new, codes, fresh + segments).running(backwards=False)
    in_old = _segments(asked_old, stored_old, codes, segments + nothing).running(backwards=True)
    naive: Doubles | None = None
    if asked_new.shape[1] == stored_old.shape[1]:
        across = _segments(asked_new, stored_old, codes, segments + nothing).running(backwards=True)
        naive = _recall(
            np.maximum(in_new.right, across.right) - TIE, np.maximum(in_new.wrong, across.wrong), codes=codes
        )
    merged = _recall(
        np.maximum(calibration_new(in_new.right - TIE), calibration_old(in_old.right - TIE)),
        np.maximum(calibration_new(in_new.wrong), calibration_old(in_old.wrong)),
        codes=codes,
    )
    return tuple(
        ServingPoint(
            share=float(share), naive=None if naive is None else float(naive[state]), merged=float(merged[state])
        )
        for share, state in zip(shares, at, strict=True)
    )


def _checked(
    queries: npt.ArrayLike, rows: npt.ArrayLike, labels: npt.ArrayLike, *, read: npt.ArrayLike = True
) -> tuple[Floats, Floats, Ints]:
    """Queries and rows as float32, and classes as numbers; of the rows those that are read must be finite."""
    asked, stored, names = vectors_of(queries, "queries"), np.asarray(rows, np.float32), labels_of(labels, "item")
    if asked.shape != stored.shape or names.shape != asked.shape[:1]:
        raise CompatibilityError(
            f"queries are {asked.shape}, rows {stored.shape}, labels {names.shape}: each item must be a query and a "
            "row of the same space, with one label"
        )
    vectors_of(stored[np.broadcast_to(np.asarray(read, np.bool_), names.shape)], "rows")
    return asked, stored, np.unique(names, return_inverse=True)[1].reshape(-1)


def _segments(queries: Floats, rows: Floats, codes: Ints, segments: Sequence[Ints]) -> _Best:
    """Return (S, N) the best of each segment of rows alone."""
    parts = [_best(queries, rows, codes=codes, positions=positions) for positions in segments]
    return _Best(np.stack([part.right for part in parts]), np.stack([part.wrong for part in parts]))


def _best(queries: Floats, rows: Floats, *, codes: Ints, positions: Ints) -> _Best:
    """Return (N,) the best among some rows, a query's own row left out.

    Args:
        queries: (N, D).
        rows: (N, D).
        codes: (N,) class numbers of both.
        positions: (M,) of the rows to search.
    """
    right = np.full(len(queries), -np.inf, np.float32)
    wrong = np.full(len(queries), -np.inf, np.float32)
    if not len(positions):
        return _Best(right, wrong)
    by_class = positions[np.argsort(codes[positions], kind="stable")]
    present, starts = np.unique(codes[by_class], return_index=True)  # (C,)
    column = np.full(int(codes.max()) + 1, -1)
    column[present] = np.arange(len(present))
    own = np.full(len(queries), -1)
    own[by_class] = np.arange(len(by_class))
    gallery = rows[by_class]
    size = block_length(len(by_class))
    for start in range(0, len(queries), size):
        block = slice(start, start + size)
        similar = queries[block] @ gallery.T  # (B, M)
        itself = np.flatnonzero(own[block] >= 0)
        similar[itself, own[block][itself]] = -np.inf
        nearest = np.maximum.reduceat(similar, starts, axis=1)  # (B, C) best of each class
        mine = column[codes[block]]
        known = np.flatnonzero(mine >= 0)
        right[start + known] = nearest[known, mine[known]]
        nearest[known, mine[known]] = -np.inf
        wrong[block] = nearest.max(axis=1)
    return _Best(right, wrong)


def _recall(right: npt.NDArray[np.floating], wrong: npt.NDArray[np.floating], *, codes: Ints) -> Doubles:
    """(S,) share of queries whose best right row beats every wrong one; queries alone in their class do not count."""
    counts = (np.bincount(codes) > 1)[codes] if len(codes) else np.zeros(0, np.bool_)
    if not counts.any():
        return np.zeros(len(right))
    hits: Doubles = (right > wrong)[:, counts].mean(axis=1, dtype=np.float64)
    return hits
