"""Example queries of an upgrade: their nearest neighbours before it and after it, as served.

N test items, D dimensions. Before is the status quo: the champion's queries over the gallery it served, the new items
embedded by it too. After is what the verdict put in its place.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from csd_core.data.pool import ItemPool
from csd_core.records.by_class import CloserLook, Outcome
from csd_core.records.check import CheckReport, strategy_name
from csd_core.retrieval.metrics import Part, recall_over
from csd_core.retrieval.parts import NOTHING, nearest
from csd_core.upgrade.sampling import choose

Ints = npt.NDArray[np.intp]
Strings = npt.NDArray[np.str_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """A row that was found.

    Attributes:
        item: Its number among the test items.
        label: Its class.
        hit: Whether that is the query's.
    """

    item: int
    label: str
    hit: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A query with what it finds, nearest first.

    Attributes:
        item: Its number among the test items.
        label: Its class.
        outcome: lost and gained changed at top 1; kept hits and missed misses both times.
        before: Under the status quo.
        after: As served after the upgrade.
    """

    item: int
    label: str
    outcome: Outcome
    before: tuple[Neighbour, ...]
    after: tuple[Neighbour, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """Queries of a class that find another one first.

    Attributes:
        asked: The queries' class.
        found: The other one.
        times: How many they are.
        pairs: Numbers of some of the queries, each with that of the row it finds.
    """

    asked: str
    found: str
    times: int
    pairs: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class UpgradeExamples:
    """A promotion that replaced a champion.

    Attributes:
        task: Whose candidate took over.
        previous: Whose model it replaced.
        strategy: How the gallery came along, with its share.
        queries: Test queries that count.
        hits: Those that hit at top 1 before.
        lost: Those of them that miss after.
        gained: The reverse.
        shown: The chosen queries.
    """

    task: str
    previous: str
    strategy: str
    queries: int
    hits: int
    lost: int
    gained: int
    shown: tuple[Example, ...]

    @property
    def recalls(self) -> tuple[float, float] | None:
        """Recall@1 before and after; None without queries."""
        if not self.queries:
            return None
        return self.hits / self.queries, (self.hits + self.gained - self.lost) / self.queries

    def of(self, *outcomes: Outcome) -> tuple[Example, ...]:
        """Return the shown queries with one of some outcomes."""
        return tuple(each for each in self.shown if each.outcome in outcomes)

    @property
    def items(self) -> frozenset[int]:
        """Every test item it shows."""
        found = {neighbour.item for each in self.shown for neighbour in (*each.before, *each.after)}
        return frozenset(found | {each.item for each in self.shown})


def compare(
    *,
    task: str,
    previous: str,
    strategy: str,
    labels: Strings,
    groups: Ints,
    before: Sequence[Part],
    after: Sequence[Part],
    examples: int,
    neighbours: int,
) -> UpgradeExamples:
    """Count the queries that an upgrade flipped and show some.

    Args:
        task: Whose candidate took over.
        previous: Whose model it replaced.
        strategy: How the gallery came along, with its share.
        labels: (N,) classes.
        groups: (N,) numbers of the items' groups.
        before: The status quo: the items as queries, and as they are stored.
        after: What is served since.
        examples: Queries to show at most.
        neighbours: Rows to show for each.
    """
    hits = []
    possible = np.zeros(len(labels), np.bool_)
    for served in (before, after):
        recall = recall_over(served, query_labels=labels, gallery_labels=labels, k=(1,), own=groups, groups=groups)
        hits.append(recall.hits[:, 0])
        possible = recall.possible
    outcomes = np.select(
        [hits[0] & ~hits[1], ~hits[0] & hits[1], hits[0] & hits[1]], ["lost", "gained", "kept"], default="missed"
    )
    chosen = choose(outcomes, labels, possible=possible, count=examples)
    found = [nearest(served, chosen, own=groups[chosen], groups=groups, count=neighbours) for served in (before, after)]

    def seen(query: int, rows: Iterable[np.intp]) -> tuple[Neighbour, ...]:
        return tuple(
            Neighbour(item=int(row), label=str(labels[row]), hit=bool(labels[row] == labels[query]))
            for row in rows
            if row != NOTHING
        )

    return UpgradeExamples(
        task=task,
        previous=previous,
        strategy=strategy,
        queries=int(possible.sum()),
        hits=int(hits[0][possible].sum()),
        lost=int((outcomes[possible] == "lost").sum()),
        gained=int((outcomes[possible] == "gained").sum()),
        shown=tuple(
            Example(
                item=int(query),
                label=str(labels[query]),
                outcome=outcomes[query],
                before=seen(query, found[0][number]),
                after=seen(query, found[1][number]),
            )
            for number, query in enumerate(chosen)
        ),
    )


# --- what a check looked at -------------------------------------------------------------------------------------------


def mistakes_of(look: CloserLook, pool: ItemPool, *, offset: int) -> tuple[Mistake, ...]:
    """Return the confusions of a check.

    Args:
        look: At the queries one by one.
        pool: Of every task so far.
        offset: What an item's position in the pool and its number differ by.

    Raises:
        DataError: if the pool lacks an image.
    """
    return tuple(
        Mistake(
            asked=each.asked,
            found=each.found,
            times=each.times,
            pairs=tuple((query, row) for query, row in (_numbers(pool, pair, offset) for pair in each.examples)),
        )
        for each in look.confusions
    )


def examples_of(report: CheckReport, pool: ItemPool, *, previous: str, offset: int) -> UpgradeExamples | None:
    """Return the gate queries that a check shows; None in a check of before.

    Args:
        report: The check.
        pool: Of every task so far.
        previous: Whose model served then; empty for a first model.
        offset: What an item's position in the pool and its number differ by.

    Raises:
        DataError: if the pool lacks an image.
    """
    look = report.closer_look
    if look is None:
        return None
    way = next(each for each in report.alternatives if each.way == (look.strategy, look.share))
    overall = way.measured.overall if way.measured else None
    queries = overall.queries if overall else 0
    hits = round(queries * overall.at[1]) if overall else 0
    pairs = way.against_status_quo.get("overall")
    lost, gained = (pairs.lost, pairs.gained) if pairs else (0, 0)
    shown = []
    for each in look.examples:
        query, *_ = _numbers(pool, (each.query,), offset)
        label = pool.labels[query - offset]
        before, after = (
            tuple(
                Neighbour(item=row, label=str(pool.labels[row - offset]), hit=bool(pool.labels[row - offset] == label))
                for row in _numbers(pool, ids, offset)
            )
            for ids in (each.before, each.after)
        )
        shown.append(Example(item=query, label=str(label), outcome=each.outcome, before=before, after=after))
    return UpgradeExamples(
        task=report.task,
        previous=previous,
        strategy=strategy_name(look.strategy, look.share),
        queries=queries,
        hits=hits + lost - gained,
        lost=lost,
        gained=gained,
        shown=tuple(shown),
    )


def _numbers(pool: ItemPool, ids: Sequence[str], offset: int) -> list[int]:
    return [int(each) + offset for each in pool.positions(np.array(ids))] if ids else []
