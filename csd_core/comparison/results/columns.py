"""The columns of a comparison's tables: one figure of each cell of the comparison, and which of two is better."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from csd_core.comparison.results.figures import Measured

Of = Callable[[Measured], float | None]
"""A share, or a difference of shares, of what a cell measured; None where it has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A figure of each cell.

    Attributes:
        title: Its head.
        better: Which of two figures is.
        of: The figure.
        trivial: Methods for which it follows from what they are, and says nothing of how well they learn.
    """

    title: str
    better: Literal["higher", "lower"]
    of: Of
    trivial: frozenset[str] = frozenset()

    @property
    def head(self) -> str:
        """Its title with an arrow to the better side."""
        return f"{self.title}\N{NO-BREAK SPACE}{'↑' if self.better == 'higher' else '↓'}"

    def improves(self, difference: float) -> bool:
        """Return whether a difference to another figure is one to the better."""
        return difference > 0 if self.better == "higher" else difference < 0


NEVER_CHANGES = frozenset({"frozen"})
"""A backbone that never changes loses nothing on a task's own gallery, and its generations are one model."""
UPPER_BOUNDS = frozenset({"joint"})
"""Methods that read the images of all tasks; no continual learner may."""


def whole(measure: str) -> Of:
    """Return a measure of the whole line of tasks."""
    return lambda cell: cell.at(measure)


def after_last(measure: str, *, on: int | None = None) -> Of:
    """Return a measure after the last stage, on the task of a place in the line where it has one."""

    def figure(cell: Measured) -> float | None:
        return cell.at(measure, cell.tasks[-1], None if on is None else cell.tasks[on]) if cell.tasks else None

    return figure


def over_upgrades(measure: str, tasks: Sequence[str] | None = None) -> Of:
    """Mean of a measure over the stages after which it was taken, all of them or those of some tasks."""

    def mean(cell: Measured) -> float | None:
        values = [
            value for task in (cell.tasks if tasks is None else tasks) if (value := cell.at(measure, task)) is not None
        ]
        return math.fsum(values) / len(values) if values else None

    return mean


COLUMNS = (
    Column(title="Initial task", better="higher", of=after_last("recall_own", on=0)),
    Column(title="Final task", better="higher", of=after_last("recall_own", on=-1)),
    Column(title="Average", better="higher", of=whole("average")),
    Column(title="All seen", better="higher", of=after_last("recall_seen")),
    Column(title="Accuracy, all seen", better="higher", of=after_last("accuracy_seen")),
    Column(title="Forgetting R@1, own", better="lower", of=whole("forgetting_own_recall"), trivial=NEVER_CHANGES),
    Column(title="Forgetting acc., own", better="lower", of=whole("forgetting_own_accuracy")),
    Column(title="Forgetting R@1, all", better="lower", of=whole("forgetting_seen_recall")),
    Column(title="Forgetting acc., all", better="lower", of=whole("forgetting_seen_accuracy")),
    Column(title="AC", better="higher", of=whole("ac")),
    Column(title="AM", better="higher", of=whole("am")),
    Column(title="BC", better="higher", of=whole("bc"), trivial=NEVER_CHANGES),
    Column(title="FC", better="higher", of=whole("fc"), trivial=NEVER_CHANGES),
)
"""Of the table of a profile."""

UPGRADE_COLUMNS = (
    Column(title="Old items, raw", better="higher", of=over_upgrades("gate_cross"), trivial=NEVER_CHANGES),
    Column(title="Old items, adapted", better="higher", of=over_upgrades("gate_adapted"), trivial=NEVER_CHANGES),
)
"""Beside those, where contenders are compared with the reference: means over the upgrades."""
