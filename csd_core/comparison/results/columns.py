"""The columns of a comparison's tables: one figure of each run, and which of two is better."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

NEVER_CHANGES = frozenset({"frozen"})
"""A backbone that never changes loses nothing on a task's own gallery, and its generations are one model."""
UPPER_BOUNDS = frozenset({"joint"})
"""Methods that read the images of all tasks; no continual learner may."""


class Column(NamedTuple):
    """A figure of each run.

    Attributes:
        title: Its head.
        figure: Its name in Comparison.figures.
        better: Which of two figures is; None where neither is.
        trivial: Methods for which it follows from what they are, and says nothing of how well they learn.
    """

    title: str
    figure: str
    better: Literal["higher", "lower"] | None
    trivial: frozenset[str] = frozenset()

    @property
    def head(self) -> str:
        """Its title with an arrow to the better side."""
        return self.title if self.better is None else f"{self.title}\N{NO-BREAK SPACE}{'↓↑'[self.better == 'higher']}"


COLUMNS = (
    Column("Initial task", "initial", "higher"),
    Column("Final task", "final", "higher"),
    Column("Average", "average", "higher"),
    Column("All seen", "recall_seen", "higher"),
    Column("Accuracy, all seen", "accuracy_seen", "higher"),
    Column("Forgetting R@1, own", "forgetting_own_recall", "lower", NEVER_CHANGES),
    Column("Forgetting acc., own", "forgetting_own_accuracy", "lower"),
    Column("Forgetting R@1, all", "forgetting_seen_recall", "lower"),
    Column("Forgetting acc., all", "forgetting_seen_accuracy", "lower"),
    Column("AC", "ac", "higher"),
    Column("AM", "am", "higher"),
    Column("BC", "bc", "higher", NEVER_CHANGES),
    Column("FC", "fc", "higher", NEVER_CHANGES),
)
"""Of the table of a profile."""

BEFORE = Column("Old items, before", "gate_self", None)
UPGRADE_COLUMNS = (
    Column("Old items, raw", "gate_cross", "higher", NEVER_CHANGES),
    Column("Old items, adapted", "gate_adapted", "higher", NEVER_CHANGES),
)
"""Beside those, where contenders are compared with the reference: means over the upgrades."""

NAMED = {column.title: column for column in (*COLUMNS, BEFORE, *UPGRADE_COLUMNS)}


def over_upgrades(measure: str) -> Callable[[Any], float | None]:
    """Return what takes a run's mean of a measure over the upgrades; the pictures need it."""
    return lambda run: run.at(measure)
