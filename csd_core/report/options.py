"""The ways to serve a candidate that were measured, and what the gate made of each."""

from dataclasses import dataclass
from typing import Literal

from csd_core.records.check import Alternative
from csd_core.records.verdict import OnSelect, way_of
from csd_core.report.data import TaskStory
from csd_core.report.verdicts import judged_in_words

BatchStatus = Literal["passed", "failed", "unjudged"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One way to serve a candidate.

    Attributes:
        alternative: As it was measured.
        standing: Whether it meets the policy; the gate judges few ways.
        words: The same in a phrase.
        chosen: Whether it was taken.
        cost: Share of the old rows that it re-embeds.
        on_select: What it reached on `select`; None where it was not measured there.
    """

    alternative: Alternative
    standing: BatchStatus
    words: str
    chosen: bool
    cost: float
    on_select: OnSelect | None

    @property
    def recall(self) -> float | None:
        """Recall@1 of all gate queries; None where it cannot be served."""
        return self.alternative.measured.overall.at[1] if self.alternative.measured else None


def options(task: TaskStory) -> tuple[Option, ...]:
    """Return every way to serve the task's candidate beside an old gallery, cheapest first; none for a first model."""
    if not task.old_rows:
        return ()
    found = []
    for alternative in task.check.alternatives:
        standing, words = _standing(alternative, task)
        way = way_of(task.verdict, alternative)
        found.append(
            Option(
                alternative=alternative,
                standing=standing,
                words=words,
                chosen=alternative is task.chosen,
                cost=alternative.rows_embedded / task.old_rows,
                on_select=way.on_select if way else None,
            )
        )
    return tuple(found)


def _standing(alternative: Alternative, task: TaskStory) -> tuple[BatchStatus, str]:
    way = way_of(task.verdict, alternative)
    if way is None:
        return "unjudged", "not judged"
    if way.judged or way.cost is None:
        return ("passed" if way.passed else "failed"), judged_in_words(way)
    return "unjudged", judged_in_words(way)
