"""Flow `approve`: a person's decision on a retraining that waits for it."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed
from prefect.task_runners import ThreadPoolTaskRunner

from csd_core.params.edits import decide
from csd_core.params.production import Review
from csd_core.params.upgrade import Choice, Decision
from csd_core.system.errors import CompatibilityError
from flows.forms import Approve
from flows.project import open_project
from flows.runs.checkout import checkout
from flows.runs.failures import fail_with_message, tell
from flows.runs.outcome import conclude, end, keep_report, refuse_outdated, verdicts_of, what_is_active
from flows.runs.pipeline import Pipeline
from flows.runs.rejected_images import NOTHING_LIVE, put_aside, rejected_images
from flows.runs.reviews import deciding, note, subject_of
from flows.steps import bring_up_to_date
from flows.ui.parent_watchdog import ends_with_its_worker

DECISIONS: dict[Choice, Decision] = {
    "approve": "auto",
    "first-model": "none",
    "keep": "keep",
    "adapt": "adapt",
    "merge": "merge",
    "partial": "partial",
    "backfill": "backfill",
    "reject-model": "reject",
    "reject-data": "reject",
    "reject-classes": "reject",
    "reject": "reject",
}
"""What a person may choose -> what `decisions` in params.yaml then says."""


@flow(
    name="approve",
    task_runner=ThreadPoolTaskRunner(max_workers=1),  # type: ignore[arg-type]  # as in retrain
    on_failure=[tell],
    on_crashed=[tell],
    on_cancellation=[tell],
    persist_result=False,
)
@fail_with_message
def approve(settings: Approve) -> State[Any]:
    """Carry out a decision: params.yaml and the branch hold it, and what it promotes is published if that is meant."""
    project = open_project()
    with ends_with_its_worker(), deciding(project, settings) as retraining:
        if retraining is None:
            return Completed(name="NothingToDo", message=f"{settings.retraining}: a decision was made")
        outcome = what_is_active(project, retraining)
        if outcome:
            end(project, retraining, outcome, why=retraining.why)
            return Completed(name="NothingToDo", message=f"{retraining.name}: was published already")
        review = Review(choice=settings.choice, by=settings.by, reason=settings.reason)
        name = f"review-{retraining.name}"
        try:
            refuse_outdated(project, retraining)
        except CompatibilityError as error:
            if settings.choice not in NOTHING_LIVE:
                end(project, retraining, "outdated", why=str(error))
                raise
            with checkout(project, retraining.commit, name=name) as place:
                put_aside(project, retraining, review, rejected_images(place.workspace, retraining, settings))
            end(project, retraining, "outdated", why=str(error))
            return Completed(name="Rejected", message=str(error))
        with checkout(project, retraining.commit, name=name) as place:
            aside = rejected_images(place.workspace, retraining, settings)
            decide(place.root / "params.yaml", retraining.tasks[-1], DECISIONS[settings.choice], review)
            with Pipeline(place.root) as pipeline:
                bring_up_to_date(pipeline, place.workspace, new=(), release=None, stop=False)
            commit = place.commit(f"{subject_of(retraining)} {review.choice}\n\n{review.by}: {review.reason}")
            place.move_branch(retraining.branch, commit, subject=subject_of(retraining))
            keep_report(project, place.workspace, retraining.name)
            note(project, retraining, review, aside)
            put_aside(project, retraining, review, aside)
            decided = retraining.model_copy(update={"commit": commit})
            decided.save_to(project)
            verdicts = verdicts_of(place.workspace, retraining.tasks)
            return conclude(project, place.workspace, decided, verdicts, review=review, aside=aside)
