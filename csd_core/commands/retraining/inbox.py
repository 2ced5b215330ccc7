"""`csd inbox`: the batches of new images that wait to become a task."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime

from cyclopts import App

from csd_core.records.stages import ImageForm
from csd_core.retraining.history import retrainings, settled
from csd_core.retraining.inbox import Inbox, InboxBatch, look_into
from csd_core.retraining.manifests import TakenBatch, taken_at
from csd_core.retraining.origin import fetch_shared
from csd_core.retraining.policy import BatchStatus, Due, batch_status, decide, named, new_classes
from csd_core.retraining.set_aside import put_back
from csd_core.retraining.start import Start, known_classes, starting_point
from csd_core.retraining.unusable import remember, why_unusable
from csd_core.system.console import echo, show
from csd_core.system.errors import CsdError, DataError
from csd_core.workspace import Workspace

app = App(name="inbox", help="Show the batches of new images, mark one as complete, or return one that was set aside.")


@app.command
def status() -> None:
    """Show every batch with its state, and whether a task is due."""
    workspace = Workspace()
    fetch_shared(workspace)
    settings = workspace.params().inbox
    inbox_batches = Inbox.of(workspace, settings).inbox_batches()
    start, known, taken = _so_far(workspace)
    reviews = retrainings(workspace)
    statuses = [
        batch_status(inbox_batch, taken=taken, reviews=reviews, unusable=why_unusable(workspace, inbox_batch))
        for inbox_batch in inbox_batches
    ]
    if statuses:
        show(("batch", "images", "classes (+ new)", "state (UTC)"), _rows(statuses, known), right=("images",))
    waiting = [each.inbox_batch for each in statuses if each.state == "waits"]
    decision = decide(waiting, known_classes=known, policy=settings, now=datetime.now(UTC))
    echo(f"{settings.uri}: {'a task is due: ' if isinstance(decision, Due) else ''}{decision.why}")
    if waiting and start:
        _tell_of_last_time(workspace, start, waiting)


@app.command(name="return")
def return_(batch: str, /) -> None:
    """Let a batch that was set aside in a review wait again, with all its classes.

    Parameters
    ----------
    batch
        Name of the batch.
    """
    workspace = Workspace()
    fetch_shared(workspace)
    note = put_back(workspace, batch)
    echo(f"batch {batch} waits again; it was {note.words}")


@app.command
def ready(batch: str, /) -> None:
    """Mark a batch as complete, so that a task can take it, and look at each of its images.

    Parameters
    ----------
    batch
        Name of the folder of the batch in the inbox.
    """
    workspace = Workspace()
    fetch_shared(workspace)
    params = workspace.params()
    inbox = Inbox.of(workspace, params.inbox)
    inbox_batch = inbox.mark_ready(batch)
    found = look_into(inbox, inbox_batch, ImageForm.of(params.images))
    problem = found.problem(params.data.max_rejected)
    if problem:
        remember(workspace, inbox_batch, problem)
        raise DataError(
            f"batch {batch}: {problem}; data.max_rejected allows {params.data.max_rejected:,}, so no task takes it. "
            "Send the images under a new name"
        )
    since = f"{inbox_batch.ready_since:%Y-%m-%d %H:%M:%S} UTC" if inbox_batch.ready_since else "now"
    classes = named([f"{label} {count:,}" for label, count in sorted(found.usable.items())])
    images = f"{sum(found.usable.values()):,} images ({classes})"
    echo(f"batch {inbox_batch.name} is ready since {since}: {images}")
    if found.rejected:
        first = found.rejected[0]
        echo(
            f"{len(found.rejected):,} files are no usable images and are left out, such as {first.path}: {first.reason}"
        )


def _so_far(workspace: Workspace) -> tuple[Start | None, frozenset[str], dict[str, tuple[str, TakenBatch]]]:
    """Return where a retraining would start, the classes that tasks have there, and what they took."""
    try:
        start = starting_point(workspace, None)
        return start, known_classes(workspace, start), taken_at(workspace.root, start.commit)
    except CsdError as error:
        echo(f"note: what tasks took already is not known: {error}")
    listed = (label for task in workspace.params().tasks.values() for label in task.classes or ())
    return None, frozenset(listed), {}


def _rows(statuses: Sequence[BatchStatus], known: Collection[str]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for each in statuses:
        inbox_batch = each.inbox_batch
        new = new_classes([inbox_batch], known)
        classes = named([*(f"+{label}" for label in new), *sorted(inbox_batch.classes.keys() - set(new))])
        rows.append((inbox_batch.name, f"{inbox_batch.images:,}", classes, each.words))
    return rows


def _tell_of_last_time(workspace: Workspace, start: Start, waiting: Sequence[InboxBatch]) -> None:
    """Say so if a retraining of the same batches from the same commit has ended already."""
    before = settled(workspace, base=start.commit, inbox_batches=waiting, settings=None)
    if before is not None:
        echo(
            f"just these batches were {before.outcome} in retraining {before.name} ({before.why}); trying again would "
            "give the same, until another batch arrives or another commit is the start"
        )
