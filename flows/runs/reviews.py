"""Reviews: a retraining waits for a person, and holds neither a process nor the retrain slot while it does."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.deployments import run_deployment
from prefect.events import emit_event
from prefect.exceptions import ObjectNotFound
from prefect.states import Completed
from prefect.utilities.urls import url_for

from csd_core.params.production import Review
from csd_core.records.verdict import Rejected
from csd_core.releases.store import Releases
from csd_core.report.advice.next_steps import APPROVAL
from csd_core.retraining.history import Retraining, find, retrainings
from csd_core.system.errors import ParamsError
from csd_core.system.locks import Lock
from csd_core.workspace import Workspace
from flows.forms import Approve
from flows.project import report_url
from flows.runs.checkout import Checkout, remove_leftovers
from flows.runs.outcome import Verdicts, searchable_images
from flows.runs.rejected_images import Aside, aside_in_words
from flows.runs.review_artifacts import show_review
from flows.ui.flow_server import decision_form

TIME_OUT = "time-out"
"""Who rejects where nobody decided."""


def ask_for_review(
    project: Workspace, place: Checkout, retraining: Retraining, *, summary: str, days: float
) -> State[Any]:
    """Show the gate's report on the run's page, record the deadline, and schedule the automatic rejection."""
    deadline = datetime.now(UTC) + timedelta(days=days)
    waiting = retraining.model_copy(update={"outcome": "in review", "deadline": deadline.isoformat(timespec="seconds")})
    for task in retraining.tasks:
        show_review(
            place.workspace,
            place.workspace.params(),
            task,
            name=retraining.name,
            report_url=report_url(retraining.name),
            approve_url=approval_url(retraining.name),
        )
    waiting.save_to(project)
    tell_waiting(waiting)
    schedule_time_out(retraining.name, deadline)
    return Completed(
        name="AwaitingReview",
        message=f"{summary} {searchable_images(place.workspace, retraining.tasks):,} new images wait for the decision. "
        f"Decide with the deployment {APPROVAL} by {deadline:%Y-%m-%d %H:%M} UTC.",
    )


def show_rejections(place: Checkout, name: str, verdicts: Verdicts) -> None:
    """Show on the run's page what each rejected candidate failed, and what can be done."""
    for task, verdict in verdicts.items():
        if isinstance(verdict, Rejected):
            show_review(
                place.workspace,
                place.workspace.params(),
                task,
                name=name,
                report_url=report_url(name),
                approve_url=None,
                place="branch",
            )


@contextmanager
def deciding(project: Workspace, settings: Approve) -> Iterator[Retraining | None]:
    """The retraining that a decision is about, with everybody else kept out; None where nothing is left to decide.

    Raises:
        ParamsError: if there is none, or several and none is named, or its decision was made.
        CsdError: if somebody else is deciding on it.
    """
    name = _named(project, settings)
    lock = Lock(project.retraining(name).with_suffix(".lock"), what=f"the review of {name}")
    with lock.held(wait=0):
        remove_leftovers(project)  # of a decision that was killed
        found = find(project, name)
        if found.outcome != "in review" and not settings.if_undecided:
            raise ParamsError(f"{found.name}: nothing to decide: it was {found.outcome} ({found.why})")
        yield found if found.outcome == "in review" else None


def _named(project: Workspace, settings: Approve) -> str:
    if settings.retraining:
        return find(project, settings.retraining).name
    match [each.name for each in retrainings(project) if each.outcome == "in review"]:
        case [one]:
            return one
        case []:
            raise ParamsError("no retraining waits for a review")
        case several:
            raise ParamsError(f"several retrainings wait for a review; name one: {', '.join(several)}")


def note(project: Workspace, retraining: Retraining, review: Review, aside: Aside) -> None:
    """Write a decision into the audit log, whatever comes of it."""
    releases = Releases.of(project, project.params().live.releases)
    what = f" ({aside_in_words(aside)})" if aside else ""
    with releases.changing():
        why = f"{retraining.name}: {review.choice}{what}: {review.reason}"
        releases.audit.append("reviewed", by=review.by, why=why)


def subject_of(retraining: Retraining) -> str:
    """Return how the commit of a decision begins."""
    return f"Review of {retraining.name}:"


def follow_up(project: Workspace) -> None:
    """Remind of reviews, and have those rejected whose time-out did not: its run failed, or the server lost it."""
    now = datetime.now(UTC)
    for each in retrainings(project):
        if each.outcome != "in review":
            continue
        if each.deadline and datetime.fromisoformat(each.deadline) < now:
            schedule_time_out(each.name, now, key=f"{TIME_OUT} {each.name} {now:%Y-%m-%d}")
        else:
            tell_waiting(each)


def tell_waiting(retraining: Retraining) -> None:
    """Emit csd.review.waiting, of which an automation can tell people: when a review begins, and as a reminder."""
    until = f" until {retraining.deadline[:16].replace('T', ' ')} UTC" if retraining.deadline else ""
    emit_event(
        "csd.review.waiting",
        resource={"prefect.resource.id": f"csd.review.{retraining.name}"},
        related=[
            {"prefect.resource.id": f"prefect.flow-run.{retraining.flow_run}", "prefect.resource.role": "flow-run"}
        ]
        if retraining.flow_run
        else [],
        payload={
            "retraining": retraining.name,
            "deadline": retraining.deadline or "",
            "message": f"{retraining.name} waits for your decision{until}: {retraining.why}",
        },
    )


def schedule_time_out(name: str, deadline: datetime, *, key: str = "") -> None:
    """Let the server start the rejection when the deadline comes; it ends without a word where a decision was made."""
    words = "nobody decided in time"
    settings = Approve(choice="reject", by=TIME_OUT, reason=words, retraining=name, if_undecided=True)
    try:
        run_deployment(
            APPROVAL,
            parameters={"settings": settings.model_dump(mode="json")},
            scheduled_time=deadline,
            timeout=0,
            as_subflow=False,
            flow_run_name=f"{TIME_OUT}-{name}",
            idempotency_key=key or f"{TIME_OUT} {name}",
        )
    except ObjectNotFound:
        get_run_logger().warning("there is no deployment %s: the review has no time-out; deploy prefect.yaml", APPROVAL)


def approval_url(name: str) -> str | None:
    """Return the form in which to decide, filled in as far as it can be; None without a server that has it."""
    with get_client(sync_client=True) as client:
        try:
            deployment = client.read_deployment_by_name(APPROVAL)
        except ObjectNotFound:
            return None
    page = url_for("deployment", obj_id=deployment.id)
    return decision_form(f"{page}/run", name) if page else None
