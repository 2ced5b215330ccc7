"""New images: what waits in the inbox becomes a task of a checkout when its policy is met."""

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from prefect import get_run_logger
from prefect.events import emit_event

from csd_core.params.edits import add_task
from csd_core.params.production import InboxParams
from csd_core.records.stages import ImageForm
from csd_core.retraining.history import Retraining, retrainings, settled
from csd_core.retraining.inbox import Examination, Inbox, InboxBatch, examine
from csd_core.retraining.manifests import TakenBatch, TaskManifest, next_task, taken_at
from csd_core.retraining.policy import Due, batch_status, decide
from csd_core.retraining.start import Start, known_classes
from csd_core.retraining.unusable import remember, why_unusable
from csd_core.retraining.unusable_files import UnusableFile
from csd_core.workspace import Workspace
from flows.forms import Retrain
from flows.runs.overrides import recipe_of
from flows.runs.pipeline import dvc


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """What the inbox offers a run.

    Attributes:
        inbox: Where it lies.
        policy: When a task is cut.
        known_classes: That tasks have already.
        inbox_batches: The batches of the task to cut; none where the policy is not met.
        why: The policy's words.
        settled: Which retraining has tried the same already, and what came of it; None if none has.
    """

    inbox: Inbox
    policy: InboxParams
    known_classes: frozenset[str]
    inbox_batches: tuple[InboxBatch, ...]
    why: str
    settled: str | None


def look_into_inbox(project: Workspace, start: Start, settings: Retrain) -> Intake:
    """Decide from one listing whether a task is cut; nothing is read or changed."""
    logger = get_run_logger()
    policy = _policy(project, settings)
    inbox, known = Inbox.of(project, policy), known_classes(project, start)
    taken = taken_at(project.root, start.commit)
    reviews = [each for each in retrainings(project) if each.outcome == "in review"]
    statuses = [
        batch_status(inbox_batch, taken=taken, reviews=reviews, unusable=why_unusable(project, inbox_batch))
        for inbox_batch in inbox.inbox_batches()
    ]
    for each in statuses:
        logger.info("inbox: %s: %s", each.inbox_batch.name, each.words)
    waiting = tuple(each.inbox_batch for each in statuses if each.state == "waits")
    inbox_batches, why = _due(waiting, known, policy, settings)
    same = settled(project, base=start.commit, inbox_batches=inbox_batches, settings=settings.digest)
    return Intake(
        inbox=inbox,
        policy=policy,
        known_classes=known,
        inbox_batches=inbox_batches,
        why=why,
        settled=_nothing_new(same) if same and not settings.cut_now else None,
    )


def cut_task(project: Workspace, workspace: Workspace, intake: Intake, settings: Retrain) -> tuple[TakenBatch, ...]:
    """Copy the batches into a checkout, look at every image, version them with DVC and add the task to params.yaml.

    A batch with more unusable files than `data.max_rejected`, or with no usable image, is left out and remembered, and
    the policy is asked again; an event tells of it. Single unusable files are left out of the others.

    Args:
        project: The project.
        workspace: Of the checkout.
        intake: The batches.
        settings: Of the run.

    Returns:
        The batches that the task was cut from; none if there is no task.
    """
    params = workspace.params()
    form = ImageForm.of(params.images)
    task = next_task(params)
    folder, trial = workspace.batch(task), workspace.batch(f".{task}")
    usable = []
    labels: dict[str, str] = {}
    for inbox_batch in intake.inbox_batches:
        intake.inbox.fetch(inbox_batch, trial / inbox_batch.name)
        found = examine(trial / inbox_batch.name, form, labels)
        problem = found.problem(params.data.max_rejected)
        if problem:
            _tell_unusable(project, inbox_batch, problem, found.shown)
        else:
            _drop_rejected(trial / inbox_batch.name, found)
            usable.append(inbox_batch)
            labels.update(found.labels)
    due, why = _due(tuple(usable), intake.known_classes, intake.policy, settings)
    if not due:
        if intake.inbox_batches:
            get_run_logger().info("no task is cut: %s", why)
        shutil.rmtree(trial, ignore_errors=True)
        return ()
    for inbox_batch in due:
        for label in (trial / inbox_batch.name).iterdir():
            (folder / label.name).mkdir(parents=True, exist_ok=True)
            (label / inbox_batch.name).rename(folder / label.name / inbox_batch.name)
    shutil.rmtree(trial)
    taken = tuple(
        TakenBatch(name=each.name, digest=each.digest, images=each.images, left_out=each.left_out) for each in due
    )
    path = folder.relative_to(workspace.root).as_posix()
    dvc(workspace.root, "add", "--quiet", path)
    TaskManifest(task=task, batches=taken).save(workspace.batch_record(task))
    recipe = recipe_of(settings)
    add_task(workspace.root / "params.yaml", task, source=task, classes=None, path=path, changes=recipe)
    get_run_logger().info("task %s is cut from %s", task, ", ".join(each.name for each in taken))
    return taken


def _due(
    waiting: tuple[InboxBatch, ...], known: frozenset[str], policy: InboxParams, settings: Retrain
) -> tuple[tuple[InboxBatch, ...], str]:
    """Return the batches to cut a task from, and why, or why none."""
    if not waiting:
        return (), "no batch waits in the inbox"
    decided = decide(waiting, known_classes=known, policy=policy, now=datetime.now(UTC))
    return (waiting if isinstance(decided, Due) or settings.cut_now else ()), decided.why


def _drop_rejected(folder: Path, found: Examination) -> None:
    """Leave out what ingest would reject, so that the few of many batches do not add up to too many."""
    for rejection in found.rejected:
        (folder / rejection.path).unlink(missing_ok=True)


def _tell_unusable(project: Workspace, inbox_batch: InboxBatch, problem: str, files: tuple[UnusableFile, ...]) -> None:
    remember(project, inbox_batch, problem, files)
    get_run_logger().error("batch %s is left out: %s; fix it under a new name", inbox_batch.name, problem)
    emit_event(
        "csd.inbox.unusable",
        resource={"prefect.resource.id": f"csd.inbox.{inbox_batch.name}"},
        payload={"batch": inbox_batch.name, "message": f"batch {inbox_batch.name} is left out: {problem}"},
    )


def _policy(project: Workspace, settings: Retrain) -> InboxParams:
    """Return the inbox's parameters: the project's, for there it lies, and what this run overrides."""
    own = project.params().inbox
    return own.model_copy(update=settings.overrides.changes().get("inbox", {}))


def _nothing_new(same: Retraining) -> str:
    if same.outcome == "in review":
        return f"the same waits for a review: {same.name} ({same.why})"
    return (
        f"the same was tried from here already: {same.name} was {same.outcome} ({same.why}); more images, other "
        "parameters, a newer release or `cut_now` changes that"
    )
