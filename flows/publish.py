"""Flows `publish` and `rollback`: what production serves changes here, and can be undone here."""

from collections.abc import Sequence
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.events import emit_event
from prefect.states import Completed
from prefect.transactions import Transaction, get_transaction, transaction

from csd_core.live.gallery import LiveGallery
from csd_core.releases import publish as publishing
from csd_core.releases import rollback as rolling_back
from csd_core.releases import verify as verifying
from csd_core.releases.candidate import Production
from csd_core.releases.safekeeping import BRANCH, NO_REMOTE
from csd_core.releases.store import Releases
from csd_core.retraining.origin import share_branch
from csd_core.retraining.start import starting_point
from csd_core.system.errors import ArtifactError, CsdError, ParamsError
from csd_core.workspace import Workspace
from flows.forms import Publish, Rollback
from flows.project import open_project, run_name
from flows.runs.checkout import checkout
from flows.runs.failures import fail_with_message, tell
from flows.runs.pipeline import dvc
from flows.ui.parent_watchdog import ends_with_its_worker

MADE, PREVIOUS = "made", "previous"
"""What a publication tells its undo."""


@flow(name="publish", on_failure=[tell], on_crashed=[tell], on_cancellation=[tell], persist_result=False)
@fail_with_message
def publish(settings: Publish = Publish()) -> State[Any]:  # noqa: B008 - frozen
    """Activate a champion, from the artefacts of a commit."""
    project = open_project()
    start = starting_point(project, settings.revision or "HEAD")
    with ends_with_its_worker(), checkout(project, start.commit, name=run_name(project)) as place:
        tasks = [settings.task] if settings.task else new_tasks(project, place.workspace)
        made = publish_tasks(project, place.workspace, tasks, by=settings.by or None, why=settings.why)
    if not made:
        return Completed(name="NothingToDo", message="This champion is active already, with this gallery")
    return Completed(message=f"Active: {', '.join(made)}")


@flow(name="rollback", on_failure=[tell], on_crashed=[tell], on_cancellation=[tell], persist_result=False)
@fail_with_message
def rollback(settings: Rollback) -> State[Any]:
    """Activate an earlier release again, with its model, its rows and what people wrote and deleted since."""
    project = open_project()
    with ends_with_its_worker():
        release = rolling_back.rollback(
            Production.of(project), settings.number, why=settings.why, by=settings.by or None
        )
    _keep_safe(project, push=False)
    _announce("rolled-back", release.name)
    return Completed(message=f"Active: {release.name}, which is release {release.record.rolled_back_to} again")


def publish_tasks(
    project: Workspace, workspace: Workspace, tasks: Sequence[str], *, by: str | None, why: str
) -> tuple[str, ...]:
    """Publish the champions after some tasks, one after the other, each found fit or withdrawn.

    Args:
        project: The project, with its releases and live gallery.
        workspace: The artefacts.
        tasks: After which to take the champion, oldest first.
        by: Who asked for it; by default the user of this process.
        why: For the audit log.

    Returns:
        Names of the new releases.

    Raises:
        CsdError: if one cannot become active, or proves unfit; what was active before it is so again.
    """
    production = of_checkout(project, workspace)
    made = []
    for name in tasks:
        with production.releases.changing(), transaction():
            release = activate(production, name, by=by, why=why)
            prove(production)
        if release:
            _announce("published", release)
            made.append(release)
    if made:
        _keep_safe(workspace, push=True)
    return tuple(made)


def _keep_safe(workspace: Workspace, *, push: bool) -> None:
    """Push the branch `production`, and the data of a checkout; a failure is told, for the release is active."""
    logger = get_run_logger()
    try:
        if push and dvc(workspace.root, "remote", "list"):
            dvc(workspace.root, "push", "--quiet")
        elif push:
            logger.warning(NO_REMOTE)
        share_branch(workspace, BRANCH)
    except CsdError as error:
        logger.warning("WARNING: the release is active, but what it needs was not pushed: %s", error)


@task(name="publish", task_run_name="publish {after}", cache_policy=NO_CACHE, persist_result=False)
def activate(production: Production, after: str, *, by: str | None, why: str) -> str | None:
    """The champion after a task becomes active; None if it is already."""
    previous = production.releases.active()
    release = publishing.publish(production, task=after, by=by, why=why)
    get_run_logger().info("active: %s", release.name if release else "as before, it is this champion already")
    done = get_transaction()
    if done and previous and release:
        done.set(MADE, release.name)
        done.set(PREVIOUS, previous.number)
    return release.name if release else None


@activate.on_rollback
def withdraw(done: Transaction) -> None:
    """Activate the previous release again; the first release has none, and stays."""
    production = Production.of(open_project())
    made, previous = done.get(MADE, None), done.get(PREVIOUS, None)
    if made and production.releases.pointer() == made:
        rolling_back.rollback(production, previous, why="withdrawn: the new release did not prove fit")


@task(name="verify", task_run_name="verify", cache_policy=NO_CACHE, persist_result=False)
def prove(production: Production) -> None:
    """What is active is as it was made: model, rows, known queries, audit log.

    Raises:
        ArtifactError: if anything is not.
    """
    with production.releases.reading() as releases:
        found = verifying.verify(releases, production.live, which="active")
    if found.findings:
        raise ArtifactError("; ".join(found.findings))


def of_checkout(project: Workspace, workspace: Workspace) -> Production:
    """Return the project's releases and live gallery, for artefacts that lie in a checkout of it.

    Raises:
        ParamsError: if the live gallery would refer to images in that checkout, which is removed.
    """
    here = project.params()
    if here.live.images == "reference":
        raise ParamsError(
            "params.yaml: live.images: reference: a flow publishes from a checkout that is removed afterwards; write "
            "store, or merge the run's branch, `dvc checkout` and `csd publish`"
        )
    params = workspace.params().model_copy(update={"live": here.live, "runtime": here.runtime})
    return Production(
        workspace=workspace,
        params=params,
        releases=Releases.of(project, here.live.releases),
        live=LiveGallery.of(project, here),
    )


def new_tasks(project: Workspace, workspace: Workspace) -> tuple[str, ...]:
    """Return the tasks of a checkout that come after the active release; the last one where none does."""
    tasks = tuple(workspace.params().tasks)
    release = Releases.of(project, project.params().live.releases).active()
    if release is None or release.record.after not in tasks:
        return tasks
    return tasks[tasks.index(release.record.after) + 1 :] or tasks[-1:]


def _announce(event: str, release: str) -> None:
    emit_event(f"csd.release.{event}", resource={"prefect.resource.id": f"csd.release.{release}"})
