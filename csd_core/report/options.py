"""The ways to serve a candidate that were measured, and what the gate made of each."""

from dataclasses import dataclass
from typing import Literal

from csd_core.records.check import Alternative
from csd_core.records.verdict import Judged
from csd_core.report.data import TaskStory
from csd_core.report.verdicts import judged_in_words

BatchStatus = Literal["passed", "failed", "unjudged"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One way to serve a candidate.

    Attributes:
        alternative: As it was measured.
        standing: Whether it meets the policy; of partial backfills the gate judges one share.
        words: The same in a phrase.
        chosen: Whether it was taken.
        cost: Share of the old rows that it re-embeds.
    """

    alternative: Alternative
    standing: BatchStatus
    words: str
    chosen: bool
    cost: float

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
        found.append(
            Option(
                alternative=alternative,
                standing=standing,
                words=words,
                chosen=alternative is task.chosen,
                cost=alternative.rows_embedded / task.old_rows,
            )
        )
    return tuple(found)


def _standing(alternative: Alternative, task: TaskStory) -> tuple[BatchStatus, str]:
    mine = [each for each in task.verdict.judged if each.strategy == alternative.strategy]
    judged = next((each for each in mine if each.share == alternative.share), mine[-1] if mine else None)
    if judged is None:
        return "unjudged", "not judged"
    if alternative.share is None or alternative.share == judged.share or alternative.why_not:
        return ("passed" if judged.passed else "failed"), judged_in_words(judged)
    return _other_share(alternative.share, judged, rehearsed=task.check.rehearsal is not None)


def _other_share(share: float, judged: Judged, *, rehearsed: bool) -> tuple[BatchStatus, str]:
    """Return a partial backfill that the gate did not judge: it takes the smallest share that passes on `select`."""
    if not rehearsed:
        return "unjudged", f"not judged: {judged.why_not}"
    if judged.share is not None and share > judged.share:
        return "unjudged", f"not judged: {100 * judged.share:g} % is enough on select"
    return "failed", "fails on select, where the share is chosen"
