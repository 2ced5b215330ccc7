"""New images: what waits in the inbox becomes a task of a checkout when its policy is met."""

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime

from prefect import get_run_logger
from prefect.events import emit_event

from csd_core.operations.cuts import Cut, TakenBatch, next_task, taken_at
from csd_core.operations.inbox import Arrival, Examination, Inbox, examine
from csd_core.operations.policy import Due, decide, standing
from csd_core.operations.retrainings import Retraining, retrainings, settled
from csd_core.operations.start import Start, known_classes
from csd_core.params import Inbox as Policy
from csd_core.params_edits import add_task
from csd_core.records import ImageForm
from csd_core.workspace import Workspace
from flows.forms import Retrain
from flows.pipeline import dvc


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """What the inbox offers a run.

    Attributes:
        inbox: Where it lies.
        arrivals: The batches of the task to cut; none where the policy is not met.
        why: The policy's words.
    """

    inbox: Inbox
    arrivals: tuple[Arrival, ...]
    why: str


def look_into_inbox(home: Workspace, start: Start, settings: Retrain) -> Intake:
    """Decide from one listing whether a task is cut; nothing is read or changed."""
    logger = get_run_logger()
    policy = _policy(home, settings)
    inbox = Inbox.of(home, policy)
    taken = taken_at(home.root, start.commit)
    reviews = [each for each in retrainings(home) if each.outcome == "in review"]
    standings = [standing(arrival, taken=taken, reviews=reviews) for arrival in inbox.arrivals()]
    for each in standings:
        logger.info("inbox: %s: %s", each.arrival.name, each.words)
    waiting = tuple(each.arrival for each in standings if each.state == "waits")
    if not waiting:
        return Intake(inbox=inbox, arrivals=(), why="no batch waits in the inbox")
    decided = decide(waiting, known_classes=known_classes(home, start), policy=policy, now=datetime.now(UTC))
    if not isinstance(decided, Due) and not settings.cut_now:
        return Intake(inbox=inbox, arrivals=(), why=decided.why)
    same = settled(home, base=start.commit, arrivals=waiting)
    if same and not settings.cut_now and not settings.overrides.changes():
        return Intake(inbox=inbox, arrivals=(), why=_nothing_new(same))
    return Intake(inbox=inbox, arrivals=waiting, why=decided.why)


def cut_task(files: Workspace, intake: Intake) -> tuple[TakenBatch, ...]:
    """Copy the batches into a checkout, look at every image, version them with DVC and add the task to params.yaml.

    A batch with more unusable files than `data.max_rejected`, or with no usable image, is left out; an event tells it.

    Args:
        files: Of the checkout.
        intake: The batches.

    Returns:
        The batches that the task was cut from; none if no batch is usable, and then there is no task.
    """
    params = files.params()
    form = ImageForm(size=params.images.size, channels=params.images.channels, resize=params.images.resize)
    task = next_task(params)
    folder = files.batch(task)
    taken = []
    for arrival in intake.arrivals:
        trial = folder.with_name(f".{task}")
        intake.inbox.fetch(arrival, trial)
        problem = _problem(examine(trial, form), params.data.max_rejected)
        if problem:
            shutil.rmtree(trial)
            _tell_unusable(arrival, problem)
            continue
        for label in trial.iterdir():
            (folder / label.name).mkdir(parents=True, exist_ok=True)
            (label / arrival.name).rename(folder / label.name / arrival.name)
        shutil.rmtree(trial)
        taken.append(TakenBatch(name=arrival.name, digest=arrival.digest, images=arrival.images))
    if taken:
        dvc(files.root, "add", "--quiet", str(folder.relative_to(files.root)))
        Cut(task=task, batches=tuple(taken)).save(files.batch_record(task))
        path = folder.relative_to(files.root).as_posix()
        add_task(files.root / "params.yaml", task, source=task, classes=None, path=path)
        get_run_logger().info("task %s is cut from %s", task, ", ".join(each.name for each in taken))
    return tuple(taken)


def _problem(found: Examination, tolerated: int) -> str | None:
    """Why a batch cannot be used; None where it can."""
    if found.rejected and (len(found.rejected) > tolerated or not found.usable):
        first = found.rejected[0]
        count = len(found.rejected)
        all_files = count + sum(found.usable.values())
        return f"{count:,} of its {all_files:,} files are no usable images ({first.path}: {first.reason})"
    return None


def _tell_unusable(arrival: Arrival, problem: str) -> None:
    get_run_logger().error("batch %s is left out: %s; mend it under a new name", arrival.name, problem)
    emit_event(
        "csd.inbox.unusable",
        resource={"prefect.resource.id": f"csd.inbox.{arrival.name}"},
        payload={"batch": arrival.name, "message": problem},
    )


def _policy(home: Workspace, settings: Retrain) -> Policy:
    """The inbox's parameters: the project's, for there it lies, and what this run overrides."""
    own = home.params().inbox
    return own.model_copy(update=settings.overrides.changes().get("inbox", {}))


def _nothing_new(same: Retraining) -> str:
    return (
        f"the same batches were tried from here already: {same.name} was {same.outcome} ({same.why}); more images, a "
        "newer release or `cut_now` changes that"
    )
