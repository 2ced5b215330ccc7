"""Exact search in rows in memory: the nearest of each group, merged by their scores.

Q queries, N rows, n in a group, D dimensions, K answers. Cosines are reckoned in double precision, each alone, so that
an answer depends neither on the order of the rows nor on how a matrix product was cut up.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from csd_core.live.filters import Filters
from csd_core.live.hits import WORDS, Hits, hits_of
from csd_core.live.memory import Rows
from csd_core.live.rows import Vectors, texts_of
from csd_core.records.ranking import ScoreMap

BLOCK = 1 << 22
"""Similarities in memory at a time."""
_ROUNDING = 1e-5
"""More than a float32 product of unit vectors is off."""

Ints = npt.NDArray[np.intp]
Doubles = npt.NDArray[np.float64]


def search_exactly(rows: Rows, queries: Mapping[str, Vectors], *, k: int, where: Filters) -> Hits:
    """The true answers: the nearest of each group, merged."""
    mask = where.mask(rows.facts)
    lists = []
    for part in rows.parts:
        mine = mask if mask is None or part.positions is None else mask[part.positions]
        among = None if mine is None else np.flatnonzero(mine)
        vectors = part.vectors if among is None else part.vectors[among]
        at, cosines = _nearest_of_all(vectors, queries[part.group.query_model], part.group.score, k=k)
        at = at if among is None else among[at]
        lists.append((at if part.positions is None else part.positions[at], cosines, part.group.score(cosines)))
    positions, cosines, scores = (np.concatenate(each, axis=1) for each in zip(*lists, strict=True))
    order = np.lexsort((positions, -scores), axis=1)[:, :k]  # positions are in the order of ids
    number = np.repeat(np.arange(len(lists)), [at.shape[1] for at, _, _ in lists])
    models = np.array([part.group.query_model for part in rows.parts])
    positions = np.take_along_axis(positions, order, axis=1)
    answers = rows.texts(WORDS, positions.reshape(-1))
    return hits_of(
        {name: texts_of(answers, name).reshape(positions.shape) for name in WORDS},
        np.take_along_axis(scores, order, axis=1).astype(np.float32),
        np.take_along_axis(cosines, order, axis=1).astype(np.float32),
        models[number[order]],
    )


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
    exact = cosines_of(vectors, queries, query=query, position=position)
    order = np.lexsort((position, -score(exact), query))
    starts = np.searchsorted(
        query, np.arange(len(queries))
    )  # np.nonzero goes through queries in order, as lexsort does
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
