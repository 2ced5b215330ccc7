"""Reviews: a retraining waits for a person, and holds neither a process nor the retrain slot while it does."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.states import Completed
from prefect.utilities.urls import url_for

from csd_core.errors import ParamsError
from csd_core.operations.retrainings import Retraining, find, retrainings
from csd_core.workspace import Workspace
from flows.checkout import Checkout
from flows.evidence import show_review
from flows.forms import Approve
from flows.project import report_url

DEPLOYMENT = "approve/by-hand"
TIME_OUT = "time-out"
"""Who rejects where nobody decided."""


def ask_for_review(home: Workspace, place: Checkout, retraining: Retraining, *, days: float) -> State[Any]:
    """Show the gate's report on the run's page, write down that a decision is due, and have its absence noticed."""
    deadline = datetime.now(UTC) + timedelta(days=days)
    waiting = retraining.model_copy(update={"outcome": "in review", "deadline": deadline.isoformat(timespec="seconds")})
    show_review(
        place.files,
        place.files.params(),
        retraining.tasks[-1],
        name=retraining.name,
        report_url=report_url(retraining.name),
        approve_url=approval_url(retraining.name),
    )
    waiting.save_to(home)
    schedule_time_out(retraining.name, deadline)
    return Completed(
        name="AwaitingReview",
        message=f"{retraining.why}; decide with the deployment {DEPLOYMENT} by {deadline:%Y-%m-%d %H:%M} UTC",
    )


def under_review(home: Workspace, settings: Approve) -> Retraining | None:
    """The retraining that a decision is about; None where it was made already and that is no mistake.

    Raises:
        ParamsError: if there is none, or several and none is named, or its decision was made.
    """
    waiting = [each for each in retrainings(home) if each.outcome == "in review"]
    if not settings.retraining:
        match waiting:
            case [one]:
                return one
            case []:
                raise ParamsError("no retraining waits for a review")
            case several:
                names = ", ".join(each.name for each in several)
                raise ParamsError(f"several retrainings wait for a review; name one: {names}")
    found = find(home, settings.retraining)
    if found.outcome == "in review":
        return found
    if settings.if_undecided:
        return None
    raise ParamsError(f"{found.name}: nothing to decide: it was {found.outcome} ({found.why})")


def schedule_time_out(name: str, deadline: datetime) -> None:
    """Let the server start the rejection when the deadline comes; it ends without a word where a decision was made."""
    words = "nobody decided in time"
    settings = Approve(choice="reject", by=TIME_OUT, reason=words, retraining=name, if_undecided=True)
    try:
        run_deployment(
            DEPLOYMENT,
            parameters={"settings": settings.model_dump(mode="json")},
            scheduled_time=deadline,
            timeout=0,
            as_subflow=False,
            flow_run_name=f"{TIME_OUT}-{name}",
            idempotency_key=f"{TIME_OUT} {name}",
        )
    except ObjectNotFound:
        get_run_logger().warning(
            "there is no deployment %s: the review has no time-out; deploy prefect.yaml", DEPLOYMENT
        )


def approval_url(name: str) -> str | None:
    """The form in which to decide, filled in as far as it can be; None without a server that has it."""
    with get_client(sync_client=True) as client:
        try:
            deployment = client.read_deployment_by_name(DEPLOYMENT)
        except ObjectNotFound:
            return None
    page = url_for("deployment", obj_id=deployment.id)
    filled = {"settings": {"choice": "approve", "retraining": name}}
    return f"{page}/run?parameters={quote(json.dumps(filled))}" if page else None
