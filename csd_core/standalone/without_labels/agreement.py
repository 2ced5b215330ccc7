"""Two systems of search without a label: how far their answers agree, which bounds what an upgrade can change.

N items, Q of them ask. Nothing here says which of two answers is right: where the first answer is the same, Recall@1 is
the same whatever is right, so the share of queries whose first answer changes bounds its change (and no more is known).
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import beta, rankdata

from csd_core.retrieval.metrics import Floats, Ints

NEIGHBOURS = 10
PROFILE = 1000
"""Rows whose order by similarity is compared."""
DUPLICATE = 0.95
"""Cosine in the old space from which two items are near-duplicates."""
BLOCK = 256
"""Queries searched at a time."""
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Of one system's answers with another's, as means over Q queries.

    Attributes:
        queries: Q.
        first: Share of queries whose first answer is the same.
        changed_at_most: Upper bound of the share whose first answer changes, at CONFIDENCE (Clopper and Pearson, 1934).
        overlap: Share of the NEIGHBOURS nearest that both find.
        rank_correlation: Spearman's, of the similarities to the same rows.
    """

    queries: int
    first: float
    changed_at_most: float
    overlap: float
    rank_correlation: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Search:
    """A system: queries and rows of N items, (N, D) unit vectors each."""

    queries: Floats
    rows: Floats

    def nearest(self, asked: Ints) -> Ints:
        """Return (Q, NEIGHBOURS) rows nearest to each query, nearest first, itself left out; of equals the first."""
        count = min(NEIGHBOURS, len(self.rows) - 1)
        found = np.empty((len(asked), count), np.intp)
        for start in range(0, len(asked), BLOCK):
            some = asked[start : start + BLOCK]
            cosines = self.queries[some] @ self.rows.T
            cosines[np.arange(len(some)), some] = -np.inf
            best = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
            order = np.lexsort((best, -np.take_along_axis(cosines, best, axis=1)))
            found[start : start + BLOCK] = np.take_along_axis(best, order, axis=1)
        return found

    def similarities(self, asked: Ints, rows: Ints) -> Floats:
        """Return (Q, len(rows)) cosines."""
        return self.queries[asked] @ self.rows[rows].T


def agreement(before: Search, after: Search, asked: Ints) -> Agreement:
    """Compare the answers of two systems to the same queries.

    Args:
        before: One system.
        after: The other, of the same items.
        asked: (Q,) which of the items ask.
    """
    one, other = before.nearest(asked), after.nearest(asked)
    same = int((one[:, 0] == other[:, 0]).sum())
    rows = np.linspace(0, len(before.rows) - 1, min(PROFILE, len(before.rows))).astype(np.intp)
    profiles = [rankdata(each.similarities(asked, rows), axis=1) for each in (before, after)]
    centred = [each - each.mean(axis=1, keepdims=True) for each in profiles]
    spread = np.sqrt(np.prod([(each**2).sum(axis=1) for each in centred], axis=0))
    correlation = (centred[0] * centred[1]).sum(axis=1) / np.where(spread > 0, spread, 1)
    changed = len(asked) - same
    return Agreement(
        queries=len(asked),
        first=same / len(asked),
        changed_at_most=float(beta.ppf(CONFIDENCE, changed + 1, same)) if same else 1.0,
        overlap=float(
            np.mean([len(set(a) & set(b)) / len(a) for a, b in zip(one.tolist(), other.tolist(), strict=True)])
        ),
        rank_correlation=float(correlation.mean()),
    )


def duplicates_kept(before: Search, after: Search, asked: Ints) -> tuple[int, float]:
    """Return how many queries have a near-duplicate in the old space, and the share whose new neighbours hold it."""
    nearest = before.nearest(asked)[:, 0]
    close = np.flatnonzero(np.einsum("qd,qd->q", before.queries[asked], before.rows[nearest]) >= DUPLICATE)
    if not len(close):
        return 0, 1.0
    found = after.nearest(asked[close])
    return len(close), float((found == nearest[close, None]).any(axis=1).mean())
