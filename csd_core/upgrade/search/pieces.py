"""What the queries find nearest in each piece of some plans: what scores are fitted to.

Q queries, P pieces of a plan, each of one provenance.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from csd_core.records.ranking import ScoreMap
from csd_core.retrieval.metrics import TIE, Bools, Floats, Ints, Recall, largest
from csd_core.upgrade.evaluation_data import EvaluationData
from csd_core.upgrade.search.layout import Layout
from csd_core.upgrade.search.nearest import NearestRows, visit_nearest
from csd_core.upgrade.search.ways import Piece, Way

Doubles = npt.NDArray[np.float64]

NEAREST = 20
"""Rows of each piece, nearest to a query, from which a logistic map learns."""

DECIMALS = 6
"""Of the cosines that maps are fitted to: beyond them they depend on how a matrix product was cut up."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Nearest:
    """What the queries find in each piece.

    Attributes:
        right: (P, Q) largest cosine of a right row, less what counts as a tie; -inf where there is none.
        wrong: (P, Q) largest cosine of a wrong row.
        cosines: P of (Q, n) largest cosines of all rows, n at most NEAREST.
        of_class: P of (Q, n) whether that row is right.
        counts: (Q,) queries that have a right row at all.
        hit_today: (Q,) queries that hit without an upgrade.
        half: (Q,) queries of the first half, the same in any order of items.
    """

    right: Doubles
    wrong: Doubles
    cosines: tuple[Floats, ...]
    of_class: tuple[Bools, ...]
    counts: Bools
    hit_today: Bools
    half: Bools

    def of(self, chosen: Bools) -> "Nearest":
        """Return the same for some of the queries."""
        return Nearest(
            right=self.right[:, chosen],
            wrong=self.wrong[:, chosen],
            cosines=tuple(each[chosen] for each in self.cosines),
            of_class=tuple(each[chosen] for each in self.of_class),
            counts=self.counts[chosen],
            hit_today=self.hit_today[chosen],
            half=self.half[chosen],
        )

    def merits(self, maps: Sequence[ScoreMap]) -> Doubles:
        """(Q,) 1 for a hit, -1 for a query that hits today and would miss, else 0."""
        right, wrong = (
            np.max([score(part) for score, part in zip(maps, parts, strict=True)], axis=0)
            for parts in (self.right, self.wrong)
        )
        hits = right > wrong
        return np.where(self.counts, hits * 1.0 - (self.hit_today & ~hits), 0.0)


def find_nearest(select: EvaluationData, plans: Sequence[Sequence[Piece]], today: Recall) -> list[Nearest]:
    """Search, in one pass for all plans, each piece of each plan by its queries; together its pieces hold each row."""
    layout = Layout.of(select, (Way(pieces=tuple(pieces)) for pieces in plans), [])
    first, count = layout.order[layout.edges[:-1]], len(select.asked)
    cells = [[np.flatnonzero(np.isin(first, piece.rows)) for piece in pieces] for pieces in plans]
    found = [
        Nearest(
            right=np.full((len(pieces), count), -np.inf),
            wrong=np.full((len(pieces), count), -np.inf),
            cosines=tuple(np.empty((count, min(NEAREST, len(piece.rows))), np.float32) for piece in pieces),
            of_class=tuple(np.empty((count, min(NEAREST, len(piece.rows))), np.bool_) for piece in pieces),
            counts=today.possible,
            hit_today=today.hits[:, 0],
            half=_half(select.candidate[select.asked]),
        )
        for pieces in plans
    ]

    def visit(block: NearestRows) -> None:
        for nearest, used, pieces in zip(found, layout.used, cells, strict=True):
            for number, mine in enumerate(pieces):
                _find(nearest, number, block, used, mine)

    visit_nearest(layout, np.arange(count), visit, count=NEAREST)
    return [
        replace(
            nearest,
            right=np.round(nearest.right, DECIMALS),
            wrong=np.round(nearest.wrong, DECIMALS),
            cosines=tuple(np.round(each, DECIMALS) for each in nearest.cosines),
            counts=np.isfinite(nearest.right).any(axis=0) & today.possible,
        )
        for nearest in found
    ]


def _find(nearest: Nearest, number: int, block: NearestRows, used: Ints, cells: Ints) -> None:
    """Enter what a block of queries finds in one piece of a plan, which lies in some cells, each searched by a view."""
    size = nearest.cosines[number].shape[1]
    mine = np.where(np.isin(block.cell, cells), block.right[used[cells[0]]], -np.inf)
    hits, misses = largest(mine, size), block.largest_wrong(used, cells, size)
    nearest.right[number, block.mine] = hits.max(axis=1, initial=-np.inf) - TIE
    nearest.wrong[number, block.mine] = misses.max(axis=1, initial=-np.inf)
    both = np.concatenate([misses, hits], axis=1)  # of equal ones the wrong row comes first
    order = np.argsort(-both, axis=1, kind="stable")[:, :size]
    nearest.cosines[number][block.mine] = np.take_along_axis(both, order, axis=1)
    nearest.of_class[number][block.mine] = order >= misses.shape[1]


def _half(queries: Floats) -> Bools:
    """(Q,) every second query by content."""
    half = np.zeros(len(queries), np.bool_)
    half[np.lexsort(queries.T)[::2]] = True
    return half
