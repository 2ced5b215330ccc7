"""The rows nearest to some queries, in every cell by every view, in bounded memory.

N items in C cells, V views. Rows are gathered a tile at a time; of each cell only those stay that are among the
nearest so far. What the queries find under a way, or in some of its cells, is then a choice among a few rows.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from csd_core.retrieval.metrics import largest
from csd_core.retrieval.parts import Bools, Floats, Ints
from csd_core.upgrade.search.layout import Layout
from csd_core.upgrade.search.threads import threads

BLOCK_BYTES = 64 * 2**20
"""Of the cosines that a thread keeps at a time."""

BLOCK_QUERIES = 512
"""Queries at a time, or fewer where many rows stay."""

TILE_ROWS = 512
"""Rows at a time, whose cosines stay in a cache."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NearestRows:
    """What a block of B queries finds.

    Attributes:
        mine: (B,) positions of the block in what was asked.
        cell: (B, R) cell of each row of their class.
        inside: (B, R) which of these are right rows; the others fill up, or are of the query's own group.
        right: (V, B, R) their cosines; -inf where a view does not search them.
        wrong: View and cell -> (B, n) its largest cosines of wrong rows, in any order; -inf fills up.
    """

    mine: Ints
    cell: Ints
    inside: Bools
    right: Floats
    wrong: dict[tuple[int, int], Floats]

    def largest_wrong(self, used: Ints, cells: Ints, count: int) -> Floats:
        """(B, at most `count`) largest cosines of wrong rows in some cells, each by its view."""
        return largest(np.concatenate([self.wrong[int(used[cell]), int(cell)] for cell in cells], axis=1), count)


def visit_nearest(
    layout: Layout, asking: Ints, visit: Callable[[NearestRows], None], *, count: int | None = None
) -> None:
    """Call `visit` with what each block of queries finds, in any order.

    Args:
        layout: The views and cells; its scopes do not matter.
        asking: (n,) which of the queries.
        visit: Takes a block, possibly in another thread.
        count: Wrong rows that stay of each cell; None for as many as a query has right rows, and then a block without
            any is not visited.
    """
    codes, sizes = layout.classes[layout.asked[asking]], np.bincount(layout.classes)
    order = np.lexsort((codes, sizes[codes]))  # those with about as many right rows together
    by_class, ends = np.argsort(layout.classes[layout.order], kind="stable"), np.cumsum(sizes)
    pairs = [(view, cell) for cell in range(len(layout.edges) - 1) for view in layout.views_of(cell)]
    rows = np.array([layout.edges[cell + 1] - layout.edges[cell] for _, cell in pairs], np.intp)

    def of_block(mine: Ints) -> None:
        number, size = np.arange(sizes[codes[mine]].max()), sizes[codes[mine]][:, None]
        first = (ends - sizes)[codes[mine]][:, None]
        right = by_class[first + np.minimum(number, size - 1)]  # (B, R) in the layout's order, filled up with the last
        inside = number < size
        inside &= layout.groups[layout.order[right]] != layout.groups[layout.asked[asking[mine]]][:, None]
        most = count or int(inside.sum(axis=1).max())
        if not most:
            return
        cosines, wrong = _searched(layout, asking[mine], right, pairs, most)
        cosines[:, ~inside] = -np.inf
        cell = np.searchsorted(layout.edges, right, side="right") - 1
        visit(NearestRows(mine=mine, cell=cell, inside=inside, right=cosines, wrong=wrong))

    blocks, start = [], 0
    while start < len(order):
        mine = order[start : start + BLOCK_QUERIES]
        r = int(sizes[codes[mine[-1]]])
        kept = np.minimum(rows, count or r).sum() + len(layout.views) * r
        blocks.append(mine[: max(1, BLOCK_BYTES // (4 * int(kept)))])
        start += len(blocks[-1])
    with threads() as pool:
        list(pool.map(of_block, blocks))


def _searched(
    layout: Layout, asking: Ints, right: Ints, pairs: list[tuple[int, int]], count: int
) -> tuple[Floats, dict[tuple[int, int], Floats]]:
    """Return (V, B, R) cosines of the rows of the queries' class, and the largest of other rows by view and cell."""
    of_right = np.full((len(layout.views), *right.shape), -np.inf, np.float32)
    queries = [view.queries[asking] for view in layout.views]
    wrong = {}
    buffer = np.empty(len(asking) * TILE_ROWS, np.float32)
    for view, cell in pairs:
        known, best = layout.views[view], _Largest(len(asking), count)
        begin, end = int(layout.edges[cell]), int(layout.edges[cell + 1])
        query, number = np.nonzero((right >= begin) & (right < end))
        by_place = np.argsort(right[query, number], kind="stable")
        query, number = query[by_place], number[by_place]
        places = right[query, number]
        for start in range(begin, end, TILE_ROWS):
            stop = min(start + TILE_ROWS, end)
            vectors = known.vectors[known.place[layout.order[start:stop]]]
            similar = buffer[: len(asking) * len(vectors)].reshape(len(asking), len(vectors))
            np.matmul(queries[view], vectors.T, out=similar)
            here = slice(*np.searchsorted(places, (start, stop)))
            where = query[here], places[here] - start
            of_right[view, query[here], number[here]] = similar[where]
            similar[where] = -np.inf
            best.add(similar)
        wrong[view, cell] = best.found()
    return of_right, wrong


class _Largest:
    """The largest values of each row of a matrix that comes in tiles of columns."""

    def __init__(self, rows: int, count: int) -> None:
        self._count = count
        self._kept = [np.empty((rows, 0), np.float32)]
        self._least: Floats | None = None  # (B,) the smallest that stays; None until there are `count` values

    def add(self, values: Floats) -> None:
        """Take (B, n) more values, which the caller may then change."""
        if self._least is None:
            few = values.copy()
        else:
            where = np.flatnonzero(values > self._least[:, None])
            row = where // values.shape[1]
            ends = np.bincount(row, minlength=len(values)).cumsum()
            begins = np.concatenate([[0], ends[:-1]])
            few = np.full((len(values), int((ends - begins).max())), -np.inf, np.float32)
            few[row, np.arange(len(where)) - begins[row]] = values.reshape(-1)[where]
        self._kept.append(few)
        if sum(each.shape[1] for each in self._kept) >= (1 if self._least is None else 2) * self._count:
            self._kept = [self.found()]
            self._least = self._kept[0].min(axis=1, initial=np.inf)

    def found(self) -> Floats:
        """(B, n) largest values, in any order; n is the count, or less where there were fewer values."""
        return largest(np.concatenate(self._kept, axis=1), self._count)
