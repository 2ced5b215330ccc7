"""Example queries of an upgrade: their nearest neighbours before it and after it, as served.

N test items, D dimensions. Before is the status quo: the champion's queries over the gallery it served, the new items
embedded by it too. After is what the verdict put in its place.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from csd_core.retrieval.metrics import Part, recall_over
from csd_core.retrieval.parts import nearest

Ints = npt.NDArray[np.intp]
Strings = npt.NDArray[np.str_]
Outcome = Literal["lost", "gained", "kept", "missed"]


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
        before: The status quo: the items as queries, and as they are stored.
        after: What is served since.
        examples: Queries to show at most.
        neighbours: Rows to show for each.
    """
    own = np.arange(len(labels))
    hits = []
    possible = np.zeros(len(labels), np.bool_)
    for served in (before, after):
        recall = recall_over(served, query_labels=labels, gallery_labels=labels, k=(1,), self_index=own)
        hits.append(recall.hits[:, 0])
        possible = recall.possible
    outcomes = np.select(
        [hits[0] & ~hits[1], ~hits[0] & hits[1], hits[0] & hits[1]], ["lost", "gained", "kept"], default="missed"
    )
    chosen = choose(outcomes, labels, possible=possible, count=examples)
    found = [nearest(served, chosen, own=chosen, count=neighbours) for served in (before, after)]

    def seen(query: int, rows: Iterable[np.intp]) -> tuple[Neighbour, ...]:
        return tuple(
            Neighbour(item=int(row), label=str(labels[row]), hit=bool(labels[row] == labels[query])) for row in rows
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


def choose(outcomes: Strings, labels: Strings, *, possible: npt.NDArray[np.bool_], count: int) -> Ints:
    """Return positions of the queries to show: lost, gained, then the others, each spread over the classes.

    Args:
        outcomes: (N,) lost, gained, kept or missed.
        labels: (N,) classes.
        possible: (N,) whether the query can hit at all.
        count: How many, at most.
    """
    order: list[int] = []
    for group in (("lost",), ("gained",), ("kept", "missed")):
        order += _spread(np.flatnonzero(np.isin(outcomes, group) & possible), labels)
    return np.array(order[:count], np.intp)


def _spread(positions: Ints, labels: Strings) -> list[int]:
    """Return the first of every class, then the second of every class, and so on; classes in order of first sight."""
    turns: dict[str, int] = {}
    ranked = []
    for place, position in enumerate(positions.tolist()):
        turn = turns[labels[position]] = turns.get(labels[position], -1) + 1
        ranked.append((turn, place, position))
    return [position for _, _, position in sorted(ranked)]
