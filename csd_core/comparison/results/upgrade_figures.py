"""How upgrades are judged, what they bring and what they cost: figures of one contender over its upgrades."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Self

import pandas as pd

from csd_core.comparison.results.figures import PASSES, Comparison, part
from csd_core.comparison.results.intervals import Ratio, mean, ratio_of_sums
from csd_core.comparison.results.table import RUN
from csd_core.report.narrative import DASH

UPGRADE = [*RUN, "after"]
WAYS = tuple(name.removeprefix("would_pass_") for name in PASSES)
"""To serve a candidate, cheapest first."""


class Count(NamedTuple):
    """How many of some upgrades."""

    true: int
    of: int

    @classmethod
    def where(cls, found: pd.Series) -> Self:
        """Count what is true of a column of truths."""
        return cls(int(found.sum()), len(found))

    @property
    def words(self) -> str:
        """The count; a dash where there is nothing to count."""
        return f"{self.true:,}/{self.of:,}" if self.of else DASH


class Cost(NamedTuple):
    """What promoted upgrades cost.

    Attributes:
        promoted: How many upgrades.
        rows: Old rows re-embedded, as a share of all their old rows; NaN where nothing is promoted.
        query_models: Models that embed a query, mean.
    """

    promoted: Count
    rows: float
    query_models: float


@dataclass(frozen=True, slots=True, kw_only=True)
class UpgradeFigures:
    """Figures of some upgrades; changes and shares are of Recall@1 and of queries, NaN where nothing was measured.

    Attributes:
        upgrades: How many.
        promoted: Those that the gate promotes.
        some_way: Those that pass in some way, which is asked of each way as the only one allowed.
        untouched: Of these, the ones that pass in a way that re-embeds no stored row.
        backfill: Those whose full backfill passes.
        one_model: Of those, the ones that a way passes which re-embeds no stored row and has one query model.
        two_models: The same with at most two query models.
        better_but_rejected: Of the rejected ones, those whose gain by a full backfill is proven.
        stopped: Condition that their full backfill fails -> in how many of them.
        gain: Of a full backfill, mean.
        kept: Way -> share of a full backfill's gain that it keeps, with an interval over cells.
        lost: Way -> share of queries that hit today and would miss, mean.
        old_change: Change on old items under the promoted way, mean.
        old_held: Promoted upgrades in which it is not below zero.
        test_change: Change on test queries under the promoted way, mean.
        test_worse: Promoted upgrades in which it is below zero.
        test_proven_worse: Promoted upgrades in which its upper bound is below zero.
        cost: Way -> cost of the upgrades promoted under it.
        total_cost: Cost of all promoted upgrades.
    """

    upgrades: int
    promoted: Count
    some_way: Count
    untouched: Count
    backfill: Count
    one_model: Count
    two_models: Count
    better_but_rejected: Count
    stopped: Mapping[str, int]
    gain: float
    kept: Mapping[str, Ratio]
    lost: Mapping[str, float]
    old_change: float
    old_held: Count
    test_change: float
    test_worse: Count
    test_proven_worse: Count
    cost: Mapping[str, Cost]
    total_cost: Cost


def figures_of_upgrades(
    comparison: Comparison, contender: str | None = None, profile: str | None = None
) -> UpgradeFigures:
    """Return the figures of a contender's upgrades on a profile; of all contenders or profiles where none is named."""
    told = part(comparison.upgrades, profile, contender)
    ways = part(comparison.ways, profile, contender)
    taken = ways[ways["promoted"] > 0]
    promoted = (_by_way(ways["promoted"]) > 0).any(axis=1)
    # Earlier versions took it for a pass if a way did beside all others; they measured no way.
    passes = told[[*PASSES]].set_axis([*WAYS], axis=1).reindex(promoted.index) > 0
    rows, models = (_by_way(ways[name]) for name in ("rows_embedded", "query_models"))
    untouched = passes & (rows == 0)
    one, two = ((untouched & (models <= most))[passes["backfill"]].any(axis=1) for most in (1, 2))
    some = passes.any(axis=1)
    full = ways[ways.index.get_level_values("on") == "backfill"].droplevel("on")
    better = full["gain_bound"].reindex(promoted.index[~promoted]) > 0
    stuck = comparison.stopped[comparison.stopped.index.isin(better.index[better])]
    gains = _by_way(ways["gain"])
    tested = told[told["test_queries"] > 0]
    change = (tested["test_gained"] - tested["test_lost"]) / tested["test_queries"]
    old = taken["old_change"].dropna()
    costs = taken.assign(old_rows=full["rows_embedded"].reindex(taken.index.droplevel("on")).to_numpy())
    return UpgradeFigures(
        upgrades=int(told["would_pass_backfill"].count()),
        promoted=Count.where(promoted),
        some_way=Count.where(some),
        untouched=Count.where(untouched[some].any(axis=1)),
        backfill=Count.where(passes["backfill"]),
        one_model=Count.where(one),
        two_models=Count.where(two),
        better_but_rejected=Count.where(better),
        stopped=stuck.value_counts().sort_index().sort_values(ascending=False, kind="stable").to_dict(),
        gain=mean(gains["backfill"]),
        kept={way: _kept(gains, way) for way in WAYS[:-1]},
        lost={way: mean(column) for way, column in _by_way(ways["lost"]).items()},
        old_change=mean(old),
        old_held=Count.where(old >= 0),
        test_change=mean(change),
        test_worse=Count.where(change < 0),
        test_proven_worse=Count.where(tested["test_bound"] < 0),
        cost={way: _cost(costs[costs.index.get_level_values("on") == way], len(taken)) for way in WAYS},
        total_cost=_cost(costs, len(promoted)),
    )


def _by_way(figure: pd.Series) -> pd.DataFrame:
    """One row for each upgrade and one column for each way."""
    return figure.unstack("on").reindex(columns=[*WAYS])  # noqa: PD010 - pivot_table drops rows without a figure


def _kept(gains: pd.DataFrame, way: str) -> Ratio:
    """Return the share of a backfill's gain that a way keeps, over the upgrades in which it was measured."""
    cells = gains[[way, "backfill"]].dropna().groupby(RUN).sum()
    return ratio_of_sums(cells[way], cells["backfill"])


def _cost(taken: pd.DataFrame, of: int) -> Cost:
    old_rows = taken["old_rows"].sum()
    return Cost(
        promoted=Count(len(taken), of),
        rows=taken["rows_embedded"].sum() / old_rows if old_rows else float("nan"),
        query_models=mean(taken["query_models"]),
    )
