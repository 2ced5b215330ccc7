"""Retrieval metrics by exact cosine search in bounded memory.

N queries, G gallery rows, D dimensions; embeddings are unit length, so a dot product is a cosine. A query's own row is
left out by its position (`self_index`). Rows as similar as the best right one, to within float32 rounding, count
against us: no figure depends on the order of rows.

Every figure here counts in the same way, whatever it is given:

- A query whose class has no row but its own cannot hit. It is left out and counted (`Recall.excluded`, NaN in mAP@R),
  and it changes the figure of no other query. Without any query that counts there is no figure.
- Vectors may be of any number type, contiguous or not; they are compared as float32. NaN, infinity and lengths that
  overflow are refused. A zero vector is as similar to every row: it ties with all of them, so it misses.
- Labels are all texts or all numbers, of the queries as of the rows.
- K is at least 1. It may exceed the number of rows: then each query that counts hits.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from numbers import Integral
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from csd_core.retrieval.inputs import labels_of, own_rows, refuse_other_kinds, vectors_of
from csd_core.system.errors import CompatibilityError

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.intp]
Bools = npt.NDArray[np.bool_]

TIE = np.float32(1e-6)
"""Two cosines closer than this are a tie: a float32 dot product of unit vectors is exact only to about that."""

BLOCK_BYTES = 4 * 2**20
"""Similarities held at a time: few enough to stay in a cache."""

BLOCK_QUERIES = 64
"""But at least those of so many queries: with fewer the matrix product waits for the gallery to come from memory."""


def block_length(rows: int) -> int:
    """Queries compared with a gallery of `rows` rows at a time."""
    return max(BLOCK_QUERIES, BLOCK_BYTES // max(1, 4 * rows))


@dataclass(frozen=True, slots=True, kw_only=True)
class Recall:
    """Outcome of each query.

    Attributes:
        k: The K asked for.
        rank: (N,) wrong rows at least as similar as the best right row; a hit at K where this is below K.
        possible: (N,) whether the gallery holds a right row at all; other queries do not count.
    """

    k: tuple[int, ...]
    rank: Ints
    possible: Bools

    @property
    def hits(self) -> Bools:
        """(N, len(k)) hit at each K; False where no hit is possible."""
        return (self.rank[:, None] < np.array(self.k)) & self.possible[:, None]

    @property
    def queries(self) -> int:
        """Queries that count."""
        return int(self.possible.sum())

    @property
    def excluded(self) -> int:
        """Queries that cannot hit and do not count."""
        return int((~self.possible).sum())

    def at(self, k: int) -> float:
        """Recall@k, the share of queries that hit; 0 where no query counts, which `queries` tells."""
        return float((self.rank[self.possible] < k).mean()) if self.possible.any() else 0.0

    def of(self, chosen: Bools | Ints) -> Self:
        """Return the same for some of the queries."""
        return type(self)(k=self.k, rank=self.rank[chosen], possible=self.possible[chosen])


@dataclass(frozen=True, slots=True)
class _Search:
    """A gallery sorted by class, and queries in the same order.

    Attributes:
        gallery: (G, D), rows of one class next to each other.
        queries: (N, D) in the caller's order.
        order: (N,) queries by class.
        first, last: (N,) bounds of a query's class in the gallery, in the caller's order.
        own: (N,) position of a query's own row in the sorted gallery, or -1.
    """

    gallery: Floats
    queries: Floats
    order: Ints
    first: Ints
    last: Ints
    own: Ints

    @classmethod
    def prepare(
        cls,
        queries: npt.ArrayLike,
        gallery: npt.ArrayLike,
        query_labels: npt.ArrayLike,
        gallery_labels: npt.ArrayLike,
        self_index: npt.ArrayLike | None,
    ) -> Self:
        asked, rows = vectors_of(queries, "queries"), vectors_of(gallery, "the gallery")
        if rows.shape[1] != asked.shape[1]:
            raise CompatibilityError(
                f"queries are {_shape(asked)}, the gallery {_shape(rows)}: both must be N x D with the same D; "
                "re-embed the gallery with the model of the queries"
            )
        row_labels, asked_labels = labels_of(gallery_labels, "gallery"), labels_of(query_labels, "query")
        if len(row_labels) != len(rows) or len(asked_labels) != len(asked):
            raise CompatibilityError(
                f"{len(asked_labels)} labels for {len(asked)} queries, {len(row_labels)} for {len(rows)} gallery rows: "
                "give one label for each"
            )
        refuse_other_kinds(asked_labels, row_labels)
        own = own_rows(self_index, queries=len(asked), rows=len(rows))
        classes, codes = np.unique(np.concatenate([row_labels, asked_labels]), return_inverse=True)
        row_codes, asked_codes = codes[: len(rows)], codes[len(rows) :]
        if np.any(row_codes[:-1] > row_codes[1:]):
            by_class = np.argsort(row_codes, kind="stable")
            position = np.empty_like(by_class)
            position[by_class] = np.arange(len(rows))
            rows, row_codes = rows[by_class], row_codes[by_class]
            own = np.where(own >= 0, position[own], -1) if len(rows) else own
        bounds = np.searchsorted(row_codes, np.arange(len(classes) + 1))
        return cls(
            gallery=rows,
            queries=asked,
            order=np.argsort(asked_codes, kind="stable"),
            first=bounds[asked_codes],
            last=bounds[asked_codes + 1],
            own=own,
        )

    def blocks(self) -> Iterator[tuple[Ints, Floats]]:
        """Yield query positions and their (B, G) similarities, a query's own row at -inf."""
        size = block_length(len(self.gallery))
        buffer = np.empty((min(size, len(self.order)), len(self.gallery)), np.float32)
        for start in range(0, len(self.order), size):
            asked = self.order[start : start + size]
            similar = np.matmul(self.queries[asked], self.gallery.T, out=buffer[: len(asked)])
            own = self.own[asked]
            similar[np.flatnonzero(own >= 0), own[own >= 0]] = -np.inf
            yield asked, similar

    def classes(self, asked: Ints) -> Iterator[tuple[slice, slice]]:
        """Yield, for each class in a block, its queries in the block and its rows in the gallery."""
        first, last = self.first[asked], self.last[asked]  # a class without rows begins where the next one does
        other = (first[1:] != first[:-1]) | (last[1:] != last[:-1])
        edges = [0, *(np.flatnonzero(other) + 1).tolist(), len(asked)]
        for begin, end in pairwise(edges):
            yield slice(begin, end), slice(int(first[begin]), int(self.last[asked[begin]]))


def _shape(array: npt.NDArray[Any]) -> str:
    return " x ".join(map(str, array.shape))


def recall_at(
    queries: npt.ArrayLike,
    gallery: npt.ArrayLike,
    *,
    query_labels: npt.ArrayLike,
    gallery_labels: npt.ArrayLike,
    k: Sequence[int] = (1, 5, 10),
    self_index: npt.ArrayLike | None = None,
) -> Recall:
    """Recall@K: is an item of the query's class among the K nearest rows?

    A query hits at K iff fewer than K wrong rows are at least as similar as its best right row; no sort is needed.

    Args:
        queries: (N, D) unit embeddings.
        gallery: (G, D) unit embeddings.
        query_labels: (N,) classes of the queries.
        gallery_labels: (G,) classes of the rows.
        k: The K of interest.
        self_index: (N,) position of a query's own row in the gallery, which is left out; -1 where it has none.

    Raises:
        CompatibilityError: if shapes, kinds of labels or positions do not fit, a vector is not finite, a K below 1.
    """
    if any(not isinstance(each, Integral) or each < 1 for each in k):
        raise CompatibilityError(f"Recall@K of K = {', '.join(map(str, k))}: give whole numbers of at least 1")
    search = _Search.prepare(queries, gallery, query_labels, gallery_labels, self_index)
    rank = np.zeros(len(search.queries), np.intp)
    possible = np.zeros(len(search.queries), np.bool_)
    for asked, similar in search.blocks():
        best = np.full((len(asked), 1), -np.inf, np.float32)
        for some, rows in search.classes(asked):
            if rows.stop > rows.start:
                best[some, 0] = similar[some, rows].max(axis=1)
                similar[some, rows] = -np.inf
        wrong = np.greater_equal(similar, best - TIE)
        rank[asked] = np.add.reduce(wrong, axis=1, dtype=np.int32)
        possible[asked] = best[:, 0] > -np.inf
    rank[~possible] = len(search.gallery)
    return Recall(k=tuple(k), rank=rank, possible=possible)


def map_at_r(
    queries: npt.ArrayLike,
    gallery: npt.ArrayLike,
    *,
    query_labels: npt.ArrayLike,
    gallery_labels: npt.ArrayLike,
    self_index: npt.ArrayLike | None = None,
) -> npt.NDArray[np.float64]:
    """Mean average precision at R of each query (Musgrave et al., "A Metric Learning Reality Check", ECCV 2020).

    With R right rows in the gallery, `(1/R) sum_{i<=R} precision(i) * right(i)`; on a tie the wrong row comes first.

    Returns:
        (N,) values between 0 and 1; NaN where the gallery holds no right row.

    Raises:
        CompatibilityError: as `recall_at`.
    """
    search = _Search.prepare(queries, gallery, query_labels, gallery_labels, self_index)
    precision = np.full(len(search.queries), np.nan)
    for asked, similar in search.blocks():
        for some, rows in search.classes(asked):
            of_class = asked[some]
            own = search.own[of_class]
            relevant = (rows.stop - rows.start) - ((own >= rows.start) & (own < rows.stop))  # (B,) R of each query
            r = int(relevant.max(initial=0))
            if r:
                right = -np.sort(-similar[some, rows], axis=1)[:, :r]
                similar[some, rows] = -np.inf
                wrong = _largest(similar[some], r)
                precision[of_class] = _precision_at_r(right, wrong, relevant)
    return precision


def _largest(values: Floats, count: int) -> Floats:
    """Return (B, count) largest of each row, in any order; all of them where there are fewer."""
    if values.shape[1] <= count:
        return values
    return np.partition(values, values.shape[1] - count, axis=1)[:, -count:]


def _precision_at_r(right: Floats, wrong: Floats, relevant: Ints) -> npt.NDArray[np.float64]:
    """Average precision at R from the (B, R) right cosines, falling, and the largest wrong ones."""
    merged = np.concatenate([wrong, right - TIE], axis=1)  # a stable sort then puts a tied wrong row first
    is_right = np.zeros(merged.shape, np.bool_)
    is_right[:, wrong.shape[1] :] = right > -np.inf
    order = np.argsort(-merged, axis=1, kind="stable")[:, : right.shape[1]]
    ranked = np.take_along_axis(is_right, order, axis=1)
    position = np.arange(1, right.shape[1] + 1)
    counts = ranked & (position <= relevant[:, None])
    total = (counts * np.cumsum(ranked, axis=1) / position).sum(axis=1)
    return np.where(relevant > 0, total / np.maximum(relevant, 1), np.nan)
