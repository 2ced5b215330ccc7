"""All advice on a task's candidate, from what its stages left behind, and the same as lines of a terminal."""

from collections.abc import Iterator
from dataclasses import dataclass

from csd_core.params.model import Params
from csd_core.records.check import CheckReport, most_found
from csd_core.records.verdict import Promoted, Rejected, VerdictFile
from csd_core.report.advice import checked, training
from csd_core.report.advice.next_steps import Place, Step, closest, next_steps
from csd_core.system.words import count, quoted
from csd_core.workspace import Workspace

CLASSES = 5
"""Classes and confusions that a terminal shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What to know and to do about a candidate.

    Attributes:
        warnings: Of its training and its check, a sentence each.
        steps: What to do about a rejection, the most promising first; empty after a promotion.
    """

    warnings: tuple[str, ...]
    steps: tuple[Step, ...]


def advice_on(
    workspace: Workspace,
    params: Params,
    report: CheckReport,
    verdict: Promoted | Rejected,
    *,
    place: Place,
) -> Advice:
    """Return the advice on a candidate of a project.

    Args:
        workspace: Where its training lies.
        params: Of the same checkout.
        report: Its check.
        verdict: The gate's.
        place: Where a person decides on it.

    Raises:
        ArtifactError: if a file of its training is missing or damaged.
    """
    trained = training.Training.of(workspace, params, report.task)
    steps: tuple[Step, ...] = ()
    if isinstance(verdict, Rejected):
        steps = next_steps(
            report, verdict, params.gate, training=trained, gate_share=params.split.gate or None, place=place
        )
    return Advice(warnings=(*training.warnings_of(trained), *checked.warnings_of(report)), steps=steps)


def lines(report: CheckReport, verdict: Promoted | Rejected, advice: Advice) -> Iterator[str]:
    """Yield warnings and, of a rejection, what failed, which classes suffer and what to do, as a terminal shows it."""
    if isinstance(verdict, Promoted):
        yield from (f"{verdict.task}: {each}" for each in advice.warnings)
        return
    way = closest(verdict)
    if way is None:
        yield f"{verdict.task}: {verdict.what}: {verdict.because}"
    elif way.failed:
        closest_way = "" if way.strategy == "none" else f"; of the ways that were judged {way.name} is closest"
        yield f"{verdict.task}: {verdict.what}{closest_way}. It fails:"
        yield from (f"  {each.name}: {each.words}" for each in way.failed)
    else:
        yield f"{verdict.task}: {verdict.what} by an operator; the gate alone would promote it."
    yield from _classes(report)
    if advice.warnings:
        yield "Warnings:"
        yield from (f"  {each}" for each in advice.warnings)
    yield "Next, the most promising first:"
    yield from (f"  {number}. {step.words}" for number, step in enumerate(advice.steps, start=1))


def _classes(report: CheckReport) -> Iterator[str]:
    best, look = most_found(report.alternatives), report.closer_look
    worst = [each for each in best.by_class.worst if each.after < each.queries] if best and best.by_class else []
    if best and worst:
        yield f"Worst classes under {best.name}, as hits of gate queries:"
        for each in worst[:CLASSES]:
            today = "" if each.before is None else f"; today {each.before:,}"
            yield f"  {quoted(each.name)}: {each.after:,} of {each.queries:,}{today}"
    if look and look.confusions:
        pairs = [
            f"{quoted(each.asked)} as {quoted(each.found)} ({count(each.times, 'time')})"
            for each in look.confusions[:CLASSES]
        ]
        yield f"Most often found as another class: {'; '.join(pairs)}."


def latest(workspace: Workspace, params: Params) -> Iterator[tuple[CheckReport, Promoted | Rejected, Advice]]:
    """Yield the last candidate that was promoted and those that were rejected since, with the advice on each."""
    found: list[Promoted | Rejected] = []
    for task in params.tasks:
        if workspace.verdict(task).is_file():
            verdict = VerdictFile.load(workspace.verdict(task)).verdict
            found = [*found, verdict] if isinstance(verdict, Rejected) else [verdict]
    for each in found:
        report = CheckReport.load(workspace.check(each.task))
        yield report, each, advice_on(workspace, params, report, each, place="project")
