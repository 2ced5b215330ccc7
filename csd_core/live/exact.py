"""Search in rows in memory or mapped: the nearest of each group, merged by their scores.

Q queries, N rows, n in a part, D dimensions, K answers. Cosines are reckoned in double precision, each alone, so that
an answer depends neither on the order of the rows nor on how a matrix product was cut up. Where a part has an index, it
proposes the rows that are compared.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from csd_core.live.filters import Filters
from csd_core.live.hits import WORDS, Hits, hits_of
from csd_core.live.index import nearest
from csd_core.live.memory import REPETITIVE, Rows, RowsPart
from csd_core.live.rows import Strings, Vectors, texts_of
from csd_core.records.ranking import ScoreMap

BLOCK = 1 << 22
"""Similarities in memory at a time."""
_ROUNDING = 1e-5
"""More than a float32 product of unit vectors is off."""
_REMEMBERED = 16
"""Filters whose rows are kept."""

Ints = npt.NDArray[np.intp]
Doubles = npt.NDArray[np.float64]


class Chosen(NamedTuple):
    """The rows of a part that a search considers: as bits where an index searches them, else listed."""

    size: int
    bits: npt.NDArray[np.uint8] | None
    """(ceil(n / 8),) in little order."""
    listed: Ints | None
    """(size,) ascending."""

    @classmethod
    def of(cls, mask: npt.NDArray[np.bool_], *, indexed: bool) -> "Chosen":
        """Those of a mask (n,)."""
        size = int(np.count_nonzero(mask))
        if indexed and size > nearest.FEW:
            return cls(size, np.packbits(mask, bitorder="little"), None)
        return cls(size, None, np.flatnonzero(mask))

    @property
    def positions(self) -> Ints:
        """(size,) ascending."""
        if self.bits is not None:
            return np.flatnonzero(np.unpackbits(self.bits, bitorder="little"))
        return np.empty(0, np.intp) if self.listed is None else self.listed


class Source(NamedTuple):
    """Some rows, ready to be searched."""

    rows: Rows
    choose: Callable[[Filters], tuple[Chosen | None, ...]]
    """Which of each part's rows match a filter; None where all do."""
    words: Callable[[Ints], dict[str, Strings]]
    """Rows in any shape -> the columns WORDS of an answer in the same shape."""

    @classmethod
    def of(cls, rows: Rows, there: npt.NDArray[np.bool_] | None = None) -> "Source":
        """Rows of which only some may be there still: (N,)."""

        @lru_cache(_REMEMBERED)
        def choose(where: Filters) -> tuple[Chosen | None, ...]:
            mask = where.mask(rows.facts)
            mask = there if mask is None else mask if there is None else mask & there
            if mask is None:
                return (None,) * len(rows.parts)
            return tuple(
                Chosen.of(mask if part.positions is None else mask[part.positions], indexed=part.nearest is not None)
                for part in rows.parts
            )

        return cls(rows, choose, _words_of(rows))


def _words_of(rows: Rows) -> Callable[[Ints], dict[str, Strings]]:
    """Return what decodes the words of a few rows; numpy does it in a tenth of the time that Arrow takes."""
    repeated = {
        name: (column.indices.to_numpy(), np.array(column.dictionary.to_pylist(), np.str_))
        for name in WORDS
        if name in REPETITIVE
        for column in [rows.facts[name]]
    }

    def words(positions: Ints) -> dict[str, Strings]:
        found: dict[str, Strings] = {name: known[codes[positions]] for name, (codes, known) in repeated.items()}
        single = rows.texts([name for name in WORDS if name not in repeated], positions.reshape(-1))
        return found | {name: texts_of(single, name).reshape(positions.shape) for name in single.schema.names}

    return words


class _Found(NamedTuple):
    """The answers of one source: columns (Q, k)."""

    words: dict[str, Strings]
    scores: Doubles
    cosines: Doubles
    found_by: Strings

    def take(self, order: Ints) -> "_Found":
        """Those at (Q, k) places."""
        return _Found(
            {name: np.take_along_axis(column, order, axis=1) for name, column in self.words.items()},
            np.take_along_axis(self.scores, order, axis=1),
            np.take_along_axis(self.cosines, order, axis=1),
            np.take_along_axis(self.found_by, order, axis=1),
        )


def search(
    sources: Sequence[Source], queries: Mapping[str, Vectors], *, k: int, where: Filters, probes: int | None = None
) -> Hits:
    """The nearest of each group of each source, merged by their scores; equal ones by id.

    Args:
        sources: At least one; no id is there twice.
        queries: Query model -> (Q, D).
        k: K.
        where: Only rows that match.
        probes: Cells of an index that are searched; None to compare every row.
    """
    lists = [_search(each, queries, k=k, where=where, probes=probes) for each in sources]
    found = lists[0]
    if len(lists) > 1:
        found = _Found(
            {name: np.concatenate([each.words[name] for each in lists], axis=1) for name in WORDS},
            np.concatenate([each.scores for each in lists], axis=1),
            np.concatenate([each.cosines for each in lists], axis=1),
            np.concatenate([each.found_by for each in lists], axis=1),
        )
        found = found.take(np.lexsort((found.words["id"], -found.scores), axis=1)[:, :k])
    return hits_of(found.words, found.scores.astype(np.float32), found.cosines.astype(np.float32), found.found_by)


def _search(source: Source, queries: Mapping[str, Vectors], *, k: int, where: Filters, probes: int | None) -> _Found:
    """The answers of one source."""
    lists = []
    rows = source.rows
    for part, chosen in zip(rows.parts, source.choose(where), strict=True):
        at, cosines = nearest_in(part, queries[part.group.query_model], k=k, chosen=chosen, probes=probes)
        lists.append((at if part.positions is None else part.positions[at], cosines, part.group.score(cosines)))
    models = np.array([part.group.query_model for part in rows.parts])
    if len(lists) == 1:  # it is in order
        positions, cosines, scores = lists[0]
        return _Found(source.words(positions), scores, cosines, np.broadcast_to(models, positions.shape))
    positions, cosines, scores = (np.concatenate(each, axis=1) for each in zip(*lists, strict=True))
    order = np.lexsort((positions, -scores), axis=1)[:, :k]  # positions are in the order of ids
    number = np.repeat(np.arange(len(lists)), [at.shape[1] for at, _, _ in lists])
    positions = np.take_along_axis(positions, order, axis=1)
    return _Found(
        source.words(positions),
        np.take_along_axis(scores, order, axis=1),
        np.take_along_axis(cosines, order, axis=1),
        models[number[order]],
    )


def nearest_in(
    part: RowsPart, queries: Vectors, *, k: int, chosen: Chosen | None, probes: int | None
) -> tuple[Ints, Doubles]:
    """Positions in a part, and cosines, (Q, k) of the k highest scores, or of all that there are.

    Args:
        part: Of the rows.
        queries: (Q, D).
        k: How many.
        chosen: Rows that are considered; None for all.
        probes: Cells of its index that are searched; None to compare every row.
    """
    size = len(part.vectors) if chosen is None else chosen.size
    k = min(k, size)
    if part.nearest is None or probes is None or size <= nearest.FEW:
        return _compared(part, queries, k=k, chosen=chosen)
    bits = None if chosen is None else chosen.bits
    proposed = part.nearest.candidates(queries, k=k, probes=probes, among=bits, count=size)
    there = proposed >= 0
    short = np.count_nonzero(there, axis=1) < k  # rows that match are few near these queries
    if not short.any():
        query, place = np.nonzero(there)
        return _best(part.vectors, queries, part.group.score, query=query, position=proposed[query, place], k=k)
    at, cosines = np.empty((len(queries), k), np.intp), np.empty((len(queries), k), np.float64)
    query, place = np.nonzero(there[~short])
    at[~short], cosines[~short] = _best(
        part.vectors,
        queries[~short],
        part.group.score,
        query=query,
        position=proposed[~short][query, place],
        k=k,
    )
    at[short], cosines[short] = _compared(part, queries[short], k=k, chosen=chosen)
    return at, cosines


def _compared(part: RowsPart, queries: Vectors, *, k: int, chosen: Chosen | None) -> tuple[Ints, Doubles]:
    """The same, of every row that is considered."""
    among = None if chosen is None else chosen.positions
    vectors = part.vectors if among is None else part.vectors[among]
    at, cosines = _nearest_of_all(vectors, queries, part.group.score, k=k)
    return at if among is None else among[at], cosines


def _nearest_of_all(vectors: Vectors, queries: Vectors, score: ScoreMap, *, k: int) -> tuple[Ints, Doubles]:
    """Positions and cosines (Q, k) of the k highest, or all of n < k, a block of similarities in memory at a time."""
    k = min(k, len(vectors))
    step = max(1, BLOCK // max(1, len(vectors)))
    positions, cosines = np.empty((len(queries), k), np.intp), np.empty((len(queries), k), np.float64)
    if k:
        for start in range(0, len(queries), step):
            some = slice(start, start + step)
            positions[some], cosines[some] = _nearest(vectors, queries[some], score, k=k)
    return positions, cosines


def _nearest(vectors: Vectors, queries: Vectors, score: ScoreMap, *, k: int) -> tuple[Ints, Doubles]:
    """Positions and cosines (q, k) of the k highest scores of n >= k vectors; of equal ones the first."""
    rough = queries @ vectors.T  # (q, n)
    bound = np.partition(rough, len(vectors) - k, axis=1)[:, [len(vectors) - k]] - _ROUNDING  # (q, 1)
    query, position = np.nonzero(rough >= bound)  # (m,), m >= q k
    return _best(vectors, queries, score, query=query, position=position, k=k)


def _best(
    vectors: Vectors, queries: Vectors, score: ScoreMap, *, query: Ints, position: Ints, k: int
) -> tuple[Ints, Doubles]:
    """Positions and cosines (q, k) of the k highest scores of pairs (m,), in the order of queries, k or more each."""
    exact = cosines_of(vectors, queries, query=query, position=position)
    order = np.lexsort((position, -score(exact), query))
    starts = np.searchsorted(query, np.arange(len(queries)))  # queries come in order, as lexsort leaves them
    best = order[starts[:, None] + np.arange(k)]  # (q, k)
    return position[best], exact[best]


def cosines_of(vectors: Vectors, queries: Vectors, *, query: Ints, position: Ints) -> Doubles:
    """(m,) similarities of pairs, each reckoned alone in double precision; a chunk of them in memory at a time."""
    exact = np.empty(len(query), np.float64)
    step = max(1, BLOCK // queries.shape[1])
    for start in range(0, len(query), step):
        some = slice(start, start + step)
        left, right = queries[query[some]].astype(np.float64), vectors[position[some]].astype(np.float64)
        exact[some] = np.einsum("md,md->m", left, right)
    return exact
