"""Retrieval metrics by exact cosine search in bounded memory.

N queries, G gallery rows, D dimensions; embeddings are unit length, so a dot product is a cosine. The rows of a query's
own group (`own`) are left out: its own row, and the near-duplicates that `groups` says it has. Rows as similar as the
best right one, to within float32 rounding, count against us: no figure depends on the order of rows.

Every figure here counts in the same way, whatever it is given:

- A query whose class has no row beyond its own group cannot hit. It is left out and counted (`Recall.excluded`, NaN in
  mAP@R), and it changes the figure of no other query. Without any query that counts there is no figure.
- Vectors may be of any number type, contiguous or not; they are compared as float32. NaN, infinity and lengths that
  overflow are refused. A zero vector is as similar to every row: it ties with all of them, so it misses.
- Labels are all texts or all numbers, of the queries as of the rows.
- K is at least 1. It may exceed the number of rows: then each query that counts hits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from csd_core.records.ranking import ScoreMap
from csd_core.retrieval.parts import Bools, Floats, Ints, Part, Search, block_length
from csd_core.system.errors import CompatibilityError

__all__ = [
    "TIE",
    "Bools",
    "Floats",
    "Ints",
    "Part",
    "Recall",
    "block_length",
    "map_at_r",
    "map_over",
    "recall_at",
    "recall_over",
]

TIE = np.float32(1e-6)
"""Two cosines closer than this are a tie: a float32 dot product of unit vectors is exact only to about that."""


SLICES = 64
"""Into which a row of similarities is cut where its largest are looked for."""

LEAST_SLICES = 4
"""With fewer it is as quick to look through the row at once."""


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


def recall_at(
    queries: npt.ArrayLike,
    gallery: npt.ArrayLike,
    *,
    query_labels: npt.ArrayLike,
    gallery_labels: npt.ArrayLike,
    k: Sequence[int] = (1, 5, 10),
    own: npt.ArrayLike | None = None,
    groups: npt.ArrayLike | None = None,
) -> Recall:
    """Recall@K: is an item of the query's class among the K nearest rows?

    A query hits at K iff fewer than K wrong rows are at least as similar as its best right row; no sort is needed.

    Args:
        queries: (N, D) unit embeddings.
        gallery: (G, D) unit embeddings.
        query_labels: (N,) classes of the queries.
        gallery_labels: (G,) classes of the rows.
        k: The K of interest.
        own: (N,) number of a query's own group, whose rows are left out; -1 where it has none.
        groups: (G,) number of each row's group; by default its position, so that a group is a single row.

    Raises:
        CompatibilityError: if shapes, kinds of labels or positions do not fit, a vector is not finite, a K below 1.
    """
    return recall_over(
        [Part(queries=queries, rows=gallery)],
        query_labels=query_labels,
        gallery_labels=gallery_labels,
        k=k,
        own=own,
        groups=groups,
    )


def recall_over(
    parts: Sequence[Part],
    *,
    query_labels: npt.ArrayLike,
    gallery_labels: npt.ArrayLike,
    k: Sequence[int] = (1, 5, 10),
    own: npt.ArrayLike | None = None,
    groups: npt.ArrayLike | None = None,
) -> Recall:
    """Recall@K over a gallery in parts, whose scores make one ranking; otherwise as `recall_at`.

    Only the best right row of each part is given a score: the cosine that has the same score in another part says
    there which wrong rows come before it.

    Args:
        parts: Together they hold each of the G rows once.
        query_labels: (N,) classes of the queries.
        gallery_labels: (G,) classes of the rows.
        k: The K of interest.
        own: (N,) number of a query's own group, whose rows are left out; -1 where it has none.
        groups: (G,) number of each row's group; by default its position, so that a group is a single row.

    Raises:
        CompatibilityError: as `recall_at`.
    """
    if any(not isinstance(each, Integral) or each < 1 for each in k):
        raise CompatibilityError(f"Recall@K of K = {', '.join(map(str, k))}: give whole numbers of at least 1")
    search = Search.prepare(parts, query_labels, gallery_labels, own, groups)
    rank = np.zeros(len(search.codes), np.intp)
    possible = np.zeros(len(search.codes), np.bool_)
    for asked, similar in search.blocks():
        best = np.full((len(parts), len(asked)), -np.inf, np.float32)
        for some, slices in search.classes(asked):
            for part, rows in enumerate(slices):
                if rows.stop > rows.start:
                    best[part, some] = similar[part][some, rows].max(axis=1)
                    similar[part][some, rows] = -np.inf
        least = cosines_of_the_best([part.score for part in parts], best - TIE)
        for part, cosines in enumerate(similar):
            before = np.greater_equal(cosines, least[part, :, None])
            rank[asked] += np.add.reduce(before, axis=1, dtype=np.int32)
        possible[asked] = best.max(axis=0) > -np.inf
    rank[~possible] = search.rows
    return Recall(k=tuple(k), rank=rank, possible=possible)


def cosines_of_the_best(maps: Sequence[ScoreMap], right: Floats) -> Floats:
    """(P, B) the cosine in each part that scores as the best right row of all parts does; `right` is (P, B) too."""
    if len(maps) == 1:
        return right
    scores = np.stack([score(cosines) for score, cosines in zip(maps, right, strict=True)])
    least = np.stack([score.cosines(scores.max(axis=0)) for score in maps]).astype(np.float32)
    winner = scores.argmax(axis=0)
    query = np.arange(len(winner))
    least[winner, query] = right[winner, query]  # not by way of its score, which would round it
    return least


def map_at_r(
    queries: npt.ArrayLike,
    gallery: npt.ArrayLike,
    *,
    query_labels: npt.ArrayLike,
    gallery_labels: npt.ArrayLike,
    own: npt.ArrayLike | None = None,
    groups: npt.ArrayLike | None = None,
) -> npt.NDArray[np.float64]:
    """Mean average precision at R of each query (Musgrave et al., "A Metric Learning Reality Check", ECCV 2020).

    With R right rows in the gallery, `(1/R) sum_{i<=R} precision(i) * right(i)`; on a tie the wrong row comes first.

    Returns:
        (N,) values between 0 and 1; NaN where the gallery holds no right row.

    Raises:
        CompatibilityError: as `recall_at`.
    """
    return map_over(
        [Part(queries=queries, rows=gallery)],
        query_labels=query_labels,
        gallery_labels=gallery_labels,
        own=own,
        groups=groups,
    )


def map_over(
    parts: Sequence[Part],
    *,
    query_labels: npt.ArrayLike,
    gallery_labels: npt.ArrayLike,
    own: npt.ArrayLike | None = None,
    groups: npt.ArrayLike | None = None,
) -> npt.NDArray[np.float64]:
    """Mean average precision at R over a gallery in parts, whose scores make one ranking; otherwise as `map_at_r`."""
    search = Search.prepare(parts, query_labels, gallery_labels, own, groups)
    precision = np.full(len(search.codes), np.nan)
    for asked, similar in search.blocks():
        for some, slices in search.classes(asked):
            relevant = np.zeros(some.stop - some.start, np.intp)  # (B,) R of each query
            for part, rows in enumerate(slices):
                relevant += (similar[part][some, rows] > -np.inf).sum(axis=1)
            r = int(relevant.max(initial=0))
            if r:
                right = np.concatenate(
                    [_scored(search, part, similar[part][some, mine] - TIE) for part, mine in enumerate(slices)], axis=1
                )
                for cosines, mine in zip(similar, slices, strict=True):
                    cosines[some, mine] = -np.inf
                wrong = np.concatenate(
                    [_scored(search, part, largest(cosines[some], r)) for part, cosines in enumerate(similar)], axis=1
                )
                precision[asked[some]] = precision_at_r(-np.sort(-right, axis=1)[:, :r], wrong, relevant)
    return precision


def _scored(search: Search, part: int, cosines: Floats) -> npt.NDArray[np.floating[Any]]:
    """Scores of a part's cosines; with a single part the cosines do."""
    return cosines if len(search.parts) == 1 else search.parts[part].score(cosines)


def largest(values: Floats, count: int) -> Floats:
    """Return (B, count) largest of each row, in any order; all of them where there are fewer.

    The values are cut into slices of which each has a largest; at least `count` values reach the `count`-th largest of
    these, so only the few that do are looked through.
    """
    length = values.shape[1]
    if length <= count:
        return values
    slices = min(SLICES, length // (4 * count))
    if slices < LEAST_SLICES:
        return np.partition(values, length - count, axis=1)[:, -count:]
    whole = length // slices
    highest = values[:, : slices * whole].reshape(len(values), slices, whole).max(axis=1)
    bound = np.partition(highest, whole - count, axis=1)[:, whole - count]
    reach = [row[row >= least] for row, least in zip(values, bound, strict=True)]
    found = np.full((len(values), max(map(len, reach))), -np.inf, values.dtype)
    for row, few in zip(found, reach, strict=True):
        row[: len(few)] = few
    return np.partition(found, found.shape[1] - count, axis=1)[:, -count:]


def precision_at_r(
    right: npt.NDArray[np.floating[Any]], wrong: npt.NDArray[np.floating[Any]], relevant: Ints
) -> npt.NDArray[np.float64]:
    """Average precision at R from the (B, R) right scores, falling, and the largest wrong ones."""
    merged = np.concatenate([wrong, right], axis=1)  # a stable sort then puts a tied wrong row first
    is_right = np.zeros(merged.shape, np.bool_)
    is_right[:, wrong.shape[1] :] = right > -np.inf
    order = np.argsort(-merged, axis=1, kind="stable")[:, : right.shape[1]]
    ranked = np.take_along_axis(is_right, order, axis=1)
    position = np.arange(1, right.shape[1] + 1)
    counts = ranked & (position <= relevant[:, None])
    total = (counts * np.cumsum(ranked, axis=1) / position).sum(axis=1)
    return np.where(relevant > 0, total / np.maximum(relevant, 1), np.nan)
