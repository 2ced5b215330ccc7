"""Flow `retrain`: from what is new to a release, or to a review that waits for a person."""

from datetime import UTC, datetime
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed
from prefect.task_runners import ThreadPoolTaskRunner

from csd_core.params.edits import override
from csd_core.retraining.start import Start, starting_point, tasks_left
from csd_core.workspace import Workspace
from flows.forms import Retrain
from flows.project import alone, project, run_name
from flows.publish import new_tasks, of_checkout
from flows.runs.checkout import checkout
from flows.runs.failures import fail_with_message, tell
from flows.runs.intake import cut_task, look_into_inbox
from flows.runs.outcome import conclude, record, recover, verdicts_of, with_reasons
from flows.runs.pipeline import Pipeline
from flows.runs.reviews import ask_for_review, reject_overdue
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
    home, began = project(), datetime.now(UTC)
    name = run_name(home)
    with ends_with_its_worker(), alone(home):
        recover(home)
        reject_overdue(home)
        start = starting_point(home, settings.start_from or None)
        intake = look_into_inbox(home, start, settings)
        if not (intake.inbox_batches or _other_work(home, start, settings)):
            return Completed(name="NothingToDo", message=intake.why)
        if intake.settled:
            return Completed(name="NothingToDo", message=intake.settled)
        with checkout(home, start.commit, name=name) as place:
            override(place.root / "params.yaml", settings.overrides.changes())
            batches = cut_task(home, place.files, intake, settings)
            if settings.publish:
                of_checkout(home, place.files)  # what cannot be published is not trained
            new = new_tasks(home, place.files)
            with Pipeline(place.root) as pipeline:
                if not pipeline.stale and not (settings.publish and tasks_left(home, start)):
                    return Completed(name="NothingToDo", message=f"{intake.why}; all stages are up to date")
                judged = bring_up_to_date(
                    pipeline,
                    place.files,
                    new=new,
                    release=start.release if settings.publish else None,
                    stop=settings.on_reject == "stop" and settings.promotion == "auto",
                )
            verdicts = verdicts_of(place.files, judged)
            retraining = record(
                home, place, name, start=start, settings=settings, batches=batches, verdicts=verdicts, began=began
            )
            if settings.promotion == "review":
                return ask_for_review(
                    home, place, retraining, summary=with_reasons(verdicts), days=settings.review_days
                )
            return conclude(home, place.files, retraining, verdicts)


def _other_work(home: Workspace, start: Start, settings: Retrain) -> bool:
    """Return whether there may be work without new images: the commit of a release is up to date with itself.

    Its later tasks may not be published, though: of a run that died between two of them, or published up to one.
    """
    return bool(tasks_left(home, start) or settings.start_from or settings.overrides.changes())
