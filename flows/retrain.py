"""Flow `retrain`: from what is new to a release, or to a review that waits for a person."""

from datetime import UTC, datetime
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed
from prefect.task_runners import ThreadPoolTaskRunner

from csd_core.retraining.start import Start, starting_point, tasks_left
from csd_core.workspace import Workspace
from flows.forms import Retrain
from flows.project import alone, open_project, run_name
from flows.publish import new_tasks, of_checkout
from flows.runs.checkout import checkout
from flows.runs.failures import fail_with_message, tell
from flows.runs.intake import cut_task, look_into_inbox
from flows.runs.outcome import conclude, record, recover, verdicts_of, with_reasons
from flows.runs.overrides import apply_overrides
from flows.runs.pipeline import Pipeline
from flows.runs.reviews import ask_for_review, follow_up, show_rejections
from flows.steps import bring_up_to_date
from flows.ui.parent_watchdog import ends_with_its_worker


@flow(
    name="retrain",
    task_runner=ThreadPoolTaskRunner(max_workers=1),  # type: ignore[arg-type]  # a stage uses all cores
    on_failure=[tell],
    on_crashed=[tell],
    on_cancellation=[tell],
    persist_result=False,
)
@fail_with_message
def retrain(settings: Retrain = Retrain()) -> State[Any]:  # noqa: B008 - frozen
    """Take what is new, bring the pipeline up to date from the active release, and publish what the gate promotes."""
    project, began = open_project(), datetime.now(UTC)
    name = run_name(project)
    with ends_with_its_worker(), alone(project):
        recover(project)
        follow_up(project)
        start = starting_point(project, settings.start_from or None)
        intake = look_into_inbox(project, start, settings)
        if not (intake.inbox_batches or _other_work(project, start, settings)):
            return Completed(name="NothingToDo", message=intake.why)
        if intake.settled:
            return Completed(name="NothingToDo", message=intake.settled)
        with checkout(project, start.commit, name=name) as place:
            cuts = bool(intake.inbox_batches)
            apply_overrides(place.workspace, settings, start.release, new_task=cuts)
            batches = cut_task(project, place.workspace, intake, settings)
            if cuts and not batches:
                apply_overrides(place.workspace, settings, start.release, new_task=False)
            if settings.publish:
                of_checkout(project, place.workspace)  # what cannot be published is not trained
            new = new_tasks(project, place.workspace)
            with Pipeline(place.root) as pipeline:
                if not pipeline.stale and not (settings.publish and tasks_left(project, start)):
                    return Completed(name="NothingToDo", message=f"{intake.why}; all stages are up to date")
                judged = bring_up_to_date(
                    pipeline,
                    place.workspace,
                    new=new,
                    release=start.release if settings.publish else None,
                    stop=settings.on_reject == "stop" and settings.promotion == "auto",
                )
            verdicts = verdicts_of(place.workspace, judged)
            retraining = record(
                project, place, name, start=start, settings=settings, batches=batches, verdicts=verdicts, began=began
            )
            if settings.promotion == "review":
                return ask_for_review(
                    project, place, retraining, summary=with_reasons(verdicts), days=settings.review_days
                )
            show_rejections(place, name, verdicts)
            return conclude(project, place.workspace, retraining, verdicts)


def _other_work(project: Workspace, start: Start, settings: Retrain) -> bool:
    """Return whether there may be work without new images: the commit of a release is up to date with itself.

    Its later tasks may not be published, though: of a run that died between two of them, or published up to one.
    """
    return bool(tasks_left(project, start) or settings.start_from or settings.overrides.changes())
