"""Recall@K of many ways to serve the same items.

First products with the rows of a query's class alone give its best right row in each cell of each view, and these, for
each way, the cosine from which on a wrong row counts against it. Then each product of a tile of rows and a block of
queries is compared with these cosines, once for each way that uses it.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from csd_core.retrieval.metrics import TIE, Recall, cosines_of_the_best
from csd_core.retrieval.parts import Bools, Floats, Ints
from csd_core.upgrade.search.layout import Layout
from csd_core.upgrade.search.threads import threads

BLOCK_QUERIES = 1024
"""Queries at a time."""

TILE_ROWS = 255
"""Rows at a time: so few that a byte counts them."""

TASKS = 64
"""Into which the tiles of a block are dealt, for threads to take."""

CLASS_ROWS = 4096
"""Rows of one class at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    """Queries that are searched together, by class.

    Attributes:
        asking: (B,) which of the queries.
        by_class: (B,) positions in the block, class by class.
        bounds: (classes + 1,) where each class begins in `by_class`.
    """

    asking: Ints
    by_class: Ints
    bounds: Ints

    @classmethod
    def of(cls, layout: Layout, asking: Ints) -> "_Block":
        codes = layout.classes[layout.asked[asking]]
        by_class = np.argsort(codes, kind="stable")
        bounds = np.searchsorted(codes[by_class], np.arange(layout.classes.max(initial=-1) + 2))
        return cls(asking, by_class, bounds)


@dataclass(frozen=True, slots=True, eq=False)
class _RowsByClass:
    """Rows in the layout's order, class by class.

    Attributes:
        rows: (N,) places in the order.
        bounds: (classes + 1,) where each class begins.
        cell: (N,) cell of each place.
    """

    rows: Ints
    bounds: Ints
    cell: Ints

    @classmethod
    def of(cls, layout: Layout) -> "_RowsByClass":
        codes = layout.classes[layout.order]
        bounds = np.concatenate([[0], np.cumsum(np.bincount(codes))])
        cell = np.repeat(np.arange(len(layout.edges) - 1), np.diff(layout.edges))
        return cls(np.argsort(codes, kind="stable"), bounds, cell)


def recalls(layout: Layout, k: Sequence[int]) -> list[list[Recall]]:
    """Return Recall@K of each way in each scope that it is searched in, of the scope's queries."""
    ways, scopes, queries = len(layout.used), len(layout.scopes), len(layout.asked)
    rank = np.zeros((ways, scopes, queries), np.intp)
    possible = np.zeros((ways, scopes, queries), np.bool_)
    rows = _RowsByClass.of(layout)
    membership = np.array([scope.queries for scope in layout.scopes])
    by_scope = np.lexsort((layout.classes[layout.asked], *membership))
    with threads() as pool:
        for start in range(0, queries, BLOCK_QUERIES):
            block = _Block.of(layout, by_scope[start : start + BLOCK_QUERIES])
            best = _best_right(layout, rows, block, pool)
            least, possible[:, :, block.asking] = _least(layout, block, best)
            rank[:, :, block.asking] = _counted(layout, block, least, pool)
    rank = np.where(possible, rank, (layout.within @ np.diff(layout.edges))[:, None])
    return [
        [
            Recall(k=tuple(k), rank=rank[way, scope][each.queries], possible=possible[way, scope][each.queries])
            for scope, each in enumerate(layout.scopes)
            if layout.searched[way, scope]
        ]
        for way in range(ways)
    ]


def _best_right(layout: Layout, rows: _RowsByClass, block: _Block, pool: ThreadPoolExecutor) -> Floats:
    """(V, C, B) largest cosine of a right row outside of the query's own group, -inf where there is none."""
    best = np.full((len(layout.views), len(layout.edges) - 1, len(block.asking)), -np.inf, np.float32)
    uses = np.array([(layout.used == view).any(axis=0) for view in range(len(layout.views))])

    def of_class(code: int) -> None:
        mine = block.by_class[block.bounds[code] : block.bounds[code + 1]]
        own = layout.groups[layout.asked[block.asking[mine]]]
        held = rows.rows[rows.bounds[code] : rows.bounds[code + 1]]
        for start in range(0, len(held), CLASS_ROWS):
            some = held[start : start + CLASS_ROWS]
            for number, view in enumerate(layout.views):
                right = some[uses[number, rows.cell[some]]]
                if not len(right):
                    continue
                items = layout.order[right]
                similar = view.vectors[view.place[items]] @ view.queries[block.asking[mine]].T
                similar[layout.groups[items][:, None] == own] = -np.inf
                begins = np.flatnonzero(np.diff(rows.cell[right], prepend=-1))
                found = np.maximum.reduceat(similar, begins, axis=0)
                where = number, rows.cell[right[begins]][:, None], mine
                best[where] = np.maximum(best[where], found)

    list(pool.map(of_class, np.flatnonzero(np.diff(block.bounds)).tolist()))
    return best


def _least(layout: Layout, block: _Block, best: Floats) -> tuple[list[list[Floats]], Bools]:
    """Return of each way and scope the (P, B) cosines from which a wrong row counts, and whether a query can hit."""
    cells = np.arange(best.shape[1])
    least: list[list[Floats]] = []
    possible = np.zeros((len(layout.used), len(layout.scopes), len(block.asking)), np.bool_)
    for way, (views, groups, maps) in enumerate(zip(layout.used, layout.group, layout.maps, strict=True)):
        right = best[views, cells]
        mine = []
        for number, scope in enumerate(layout.scopes):
            asks = scope.queries[block.asking] & layout.searched[way, number]
            found = np.stack(
                [
                    right[(groups == group) & layout.within[number]].max(axis=0, initial=-np.inf)
                    for group in range(len(maps))
                ]
            )
            possible[way, number] = asks & (found.max(axis=0) > -np.inf)
            mine.append(np.where(asks, cosines_of_the_best(maps, found - TIE), np.float32(np.inf)))
        least.append(mine)
    return least, possible


def _counted(layout: Layout, block: _Block, least: list[list[Floats]], pool: ThreadPoolExecutor) -> Ints:
    """(W, S, B) wrong rows that count against each query."""
    size = len(block.asking)
    queries = [view.queries[block.asking].T for view in layout.views]
    asks = [scope.queries[block.asking] for scope in layout.scopes]
    spans = [slice(int(mine.argmax()), size - int(mine[::-1].argmax())) if mine.any() else slice(0, 0) for mine in asks]
    alike = [[(limits == mine[0]) | ~asked for limits, asked in zip(mine, asks, strict=True)] for mine in least]
    as_first = [[each.all(axis=1) for each in mine] for mine in alike]  # the same cosines as in the first scope
    tiles = [
        (cell, slice(start, min(start + TILE_ROWS, int(end))))
        for cell, (begin, end) in enumerate(pairwise(layout.edges.tolist()))
        for start in range(begin, end, TILE_ROWS)
    ]
    views = [layout.views_of(cell) for cell in range(len(layout.edges) - 1)]

    def of_tiles(some: list[tuple[int, slice]]) -> Ints:
        counts = np.zeros((len(layout.used), len(layout.scopes), size), np.intp)
        similar, before = np.empty((TILE_ROWS, size), np.float32), np.empty((TILE_ROWS, size), np.bool_)
        for cell, rows in some:
            items = layout.order[rows]
            right = _right_rows(block, layout.classes[items])
            for view in views[cell]:
                known = layout.views[view]
                cosines = np.matmul(known.vectors[known.place[items]], queries[view], out=similar[: len(items)])
                cosines.reshape(-1)[right] = -np.inf
                for way in np.flatnonzero(layout.used[:, cell] == view):
                    group, first = layout.group[way, cell], None
                    for scope in np.flatnonzero(layout.within[:, cell] & layout.searched[way]):
                        span = spans[scope]
                        if first is not None and as_first[way][scope][group]:
                            counts[way, scope] += first * asks[scope]
                            continue
                        counted = before[: len(items), span]
                        np.greater_equal(cosines[:, span], least[way][scope][group, span], out=counted)
                        found = np.add.reduce(counted.view(np.uint8), axis=0, dtype=np.uint8)
                        counts[way, scope, span] += found
                        first = found if scope == 0 and len(found) == size else first
        return counts

    dealt = [tiles[start::TASKS] for start in range(min(TASKS, len(tiles)))]
    total = np.zeros((len(layout.used), len(layout.scopes), size), np.intp)
    for counts in pool.map(of_tiles, dealt):
        total += counts
    return total


def _right_rows(block: _Block, classes: Ints) -> Ints:
    """Return where in a tile of (rows x queries) a row is of the query's class, as positions in the flat tile."""
    begins, lengths = block.bounds[classes], block.bounds[classes + 1] - block.bounds[classes]
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    queries: Ints = block.by_class[np.repeat(begins, lengths) + within]
    return queries + np.repeat(np.arange(len(classes)) * len(block.asking), lengths)
