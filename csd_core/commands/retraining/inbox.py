"""`csd inbox`: the batches of new images that wait to become a task."""

from datetime import UTC, datetime

from cyclopts import App

from csd_core.records.stages import ImageForm
from csd_core.retraining.inbox import Inbox, look_into
from csd_core.retraining.origin import fetch_shared
from csd_core.retraining.overview import inbox_overview
from csd_core.retraining.policy import classes_in_words, named
from csd_core.retraining.set_aside import put_back
from csd_core.retraining.unusable import remember
from csd_core.system.console import echo, show
from csd_core.system.errors import DataError
from csd_core.workspace import Workspace

app = App(name="inbox", help="Show the batches of new images, mark one as complete, or return one that was set aside.")


@app.command
def status() -> None:
    """Show every batch with its state, and whether a task is due."""
    workspace = Workspace()
    fetch_shared(workspace)
    found = inbox_overview(workspace, now=datetime.now(UTC))
    if found.unknown:
        echo(f"note: what tasks took already is not known: {found.unknown}")
    if found.statuses:
        rows = [
            (
                each.inbox_batch.name,
                f"{each.inbox_batch.images:,}",
                classes_in_words(each.inbox_batch, found.known_classes),
                each.words,
            )
            for each in found.statuses
        ]
        show(("batch", "images", "classes (+ new)", "state (UTC)"), rows, right=("images",))
    echo(f"{found.uri}: {found.words}")
    if found.tried_in_words:
        echo(found.tried_in_words)


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
        remember(workspace, inbox_batch, problem, found.shown)
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
