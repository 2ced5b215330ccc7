"""metrics.json: the figures of the report for `dvc metrics show` and `dvc metrics diff`.

Shares between 0 and 1, rounded so that a diff shows changes and not noise; null where there is nothing to measure.
"""

from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from csd_core.params.upgrade import Strategy
from csd_core.records.stages import Record
from csd_core.records.verdict import Rejected
from csd_core.retrieval import continual

if TYPE_CHECKING:
    from csd_core.report.data import ReportData

DIGITS = 6

Matrix = npt.NDArray[np.float64]


class Continual(Record):
    """A figure per task over the line of tasks (method of Lopez-Paz & Ranzato, 2017; Chaudhry et al., 2018)."""

    average: float | None
    """Mean over tasks after the last stage."""
    forgetting: float | None
    """Mean fall from a task's best to the last stage; null for one task."""
    backward_transfer: float | None
    """Mean change from when a task was learned; null for one task."""
    plasticity: float | None
    """Mean right after learning a task."""


class Pair(Record):
    """Like with like: one task's items alone, or everything seen."""

    own: Continual
    """Recall@1 on the task's own gallery; accuracy within its classes."""
    all_seen: Continual
    """Recall@1 over all items seen; accuracy over all classes seen."""


class AllSeenMetrics(Record):
    """All test items after the last stage."""

    recall_at_1: float | None
    recall_at_5: float | None
    recall_at_10: float | None
    map_at_r: float | None
    accuracy: float | None


class CompatibilityMetrics(Record):
    """Of the distinct promoted generations."""

    generations: int
    ac: float | None
    am: float | None
    bc: float | None
    fc: float | None
    cross_tests: dict[str, dict[str, float]]
    """Query generation -> gallery generation -> Recall@1; the last of each is its self-test."""


class TaskMetrics(Record):
    """One task and the state after it."""

    outcome: Literal["promoted", "rejected"]
    outlook: str | None = None
    """Of a rejection, what could turn it: more queries, or nothing, not even a full backfill."""
    strategy: Strategy | None
    share: float | None
    """Of the old rows that a partial backfill re-embedded."""
    champion: str | None
    """Whose model serves after the task."""
    classes: int
    test_images: int
    recall_at_1: dict[str, float]
    """Task -> Recall@1 on its own gallery."""
    accuracy: dict[str, float]
    """Task -> accuracy within its classes."""
    all_seen_recall_at_1: float | None
    all_seen_accuracy: float | None
    gate_status_quo: float | None
    """Recall@1 of all gate queries if the champion had stayed; null without one."""
    gate_served: float | None
    """The same as it was decided: under the strategy that was taken, or the status quo."""
    lost: int | None
    """Test queries that hit before the upgrade and miss after it; null where no champion was replaced, or where test
    items are not stored."""
    gained: int | None


class Metrics(Record):
    """metrics.json."""

    all_seen: AllSeenMetrics
    retrieval: Pair
    classification: Pair
    compatibility: CompatibilityMetrics
    tasks: dict[str, TaskMetrics]


def over_tasks(a: Matrix) -> Continual:
    """Summarise a[t, i], (T, T), of which columns and leading rows may be NaN.

    A task without test items does not count. A stage before the first champion serves nothing: tasks that arrived by
    then count as learned when the first champion came.
    """
    served = np.flatnonzero(~np.isnan(a).all(axis=1))
    measured = np.flatnonzero(~np.isnan(a).all(axis=0))
    if not len(measured):
        return Continual(average=None, forgetting=None, backward_transfer=None, plasticity=None)
    filled = a.copy()
    filled[: served[0]] = a[served[0]]
    stages = [*measured[:-1], len(a) - 1]  # the last stage counts, with items of its own or without
    square = filled[np.ix_(stages, measured)]
    return Continual(
        average=_rounded(continual.average(square)),
        forgetting=_rounded(continual.mean_forgetting(square)),
        backward_transfer=_rounded(continual.backward_transfer(square)),
        plasticity=_rounded(continual.plasticity(square)),
    )


def summarise(report_data: "ReportData") -> Metrics:
    """Return the figures of a story."""
    figures = report_data.figures
    last = figures.all_seen[-1]
    at = last.at if last else {}
    return Metrics(
        all_seen=AllSeenMetrics(
            recall_at_1=_rounded(at.get(1)),
            recall_at_5=_rounded(at.get(5)),
            recall_at_10=_rounded(at.get(10)),
            map_at_r=_rounded(figures.map_at_r),
            accuracy=_rounded(last.accuracy if last else None),
        ),
        retrieval=Pair(own=over_tasks(figures.own_recall), all_seen=over_tasks(figures.seen_recall)),
        classification=Pair(own=over_tasks(figures.own_accuracy), all_seen=over_tasks(figures.seen_accuracy)),
        compatibility=_compatibility(report_data),
        tasks={task.name: _task(report_data, stage) for stage, task in enumerate(report_data.tasks)},
    )


def _compatibility(report_data: "ReportData") -> CompatibilityMetrics:
    names, cross = [str(champion.task) for champion in report_data.generations], report_data.figures.cross
    measured = len(names) > 0 and not np.isnan(np.diagonal(cross)).any()
    found = continual.compatibility(cross) if measured else None
    return CompatibilityMetrics(
        generations=len(names),
        ac=_rounded(found.ac if found else None),
        am=_rounded(found.am if found else None),
        bc=_rounded(found.bc if found else None),
        fc=_rounded(found.fc if found else None),
        cross_tests={name: _row(names[: number + 1], cross[number]) for number, name in enumerate(names)},
    )


def _task(report_data: "ReportData", stage: int) -> TaskMetrics:
    task, figures = report_data.tasks[stage], report_data.figures
    names = [each.name for each in report_data.tasks[: stage + 1]]
    seen = figures.all_seen[stage]
    upgrade = next((each for each in report_data.upgrades if each.task == task.name), None)
    quo, served = task.check.status_quo, task.chosen.measured if task.chosen else task.check.status_quo
    return TaskMetrics(
        outcome=task.verdict.outcome,
        outlook=(task.verdict.outlook or None) if isinstance(task.verdict, Rejected) else None,
        strategy=task.entry.strategy,
        share=task.entry.share,
        champion=task.entry.champion_task,
        classes=len(task.shard.classes),
        test_images=int(figures.items[stage]),
        recall_at_1=_row(names, figures.own_recall[stage]),
        accuracy=_row(names, figures.own_accuracy[stage]),
        all_seen_recall_at_1=_rounded(seen.at[1] if seen else None),
        all_seen_accuracy=_rounded(seen.accuracy if seen else None),
        gate_status_quo=_rounded(quo.overall.recall_at_1 if quo else None),
        gate_served=_rounded(served.overall.recall_at_1 if served else None),
        lost=upgrade.lost if upgrade else None,
        gained=upgrade.gained if upgrade else None,
    )


def _row(names: list[str], values: Matrix) -> dict[str, float]:
    pairs = zip(names, values[: len(names)].tolist(), strict=True)
    return {name: round(value, DIGITS) for name, value in pairs if not np.isnan(value)}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DIGITS) + 0.0  # no minus zero
