"""Images that a person rejected with their candidate: remembered, so that no task takes them until they are returned.

The inbox itself is only read: the note lies in operations/aside, and a sender who changes the batch makes it another.
"""

from collections.abc import Mapping

from csd_core.records.stages import Digest, Record
from csd_core.retraining.manifests import TakenBatch
from csd_core.retraining.origin import share
from csd_core.system.errors import ParamsError
from csd_core.workspace import Workspace


class SetAside(Record):
    """operations/aside/<batch>.json."""

    name: str
    """The batch."""
    digest: Digest
    """Of all its files, as `InboxBatch` has it; the note does not hold for a batch that changed since."""
    classes: tuple[str, ...] | None
    """Those that are set aside; None for the whole batch."""
    by: str
    """Who rejected them."""
    reason: str
    retraining: str
    """In whose review."""

    @property
    def words(self) -> str:
        """Who set what aside, and why."""
        what = f" of {', '.join(self.classes)}" if self.classes else ""
        return f"set aside{what} by {self.by}: {self.reason}"


def set_aside(
    workspace: Workspace, batch: TakenBatch, classes: tuple[str, ...] | None, *, by: str, reason: str, retraining: str
) -> None:
    """Note that no task takes a batch, or some of its classes, beside those that were set aside before.

    Args:
        workspace: The project.
        batch: As the rejected task took it.
        classes: Which; None for the whole batch.
        by: Who says so.
        reason: Why.
        retraining: In whose review.
    """
    earlier = notes(workspace).get(batch.name)
    # a batch of which classes had been set aside was taken without them, under another digest
    kept = earlier if earlier and earlier.classes and batch.left_out == earlier.classes else None
    if kept and kept.classes and classes is not None:
        classes = tuple(sorted({*kept.classes, *classes}))
    note = SetAside(
        name=batch.name,
        digest=kept.digest if kept else batch.digest,
        classes=classes,
        by=by,
        reason=reason,
        retraining=retraining,
    )
    note.save(workspace.set_aside(batch.name))
    share(workspace, workspace.set_aside(batch.name))


def put_back(workspace: Workspace, name: str) -> SetAside:
    """Let a batch wait again.

    Returns:
        Why it did not.

    Raises:
        ParamsError: if it is not set aside.
    """
    found = notes(workspace)
    if name not in found:
        there = ", ".join(sorted(found)) or "none"
        raise ParamsError(f"batch {name}: is not set aside; batches that are: {there}")
    workspace.set_aside(name).unlink()
    share(workspace, workspace.set_aside(name))
    return found[name]


def notes(workspace: Workspace) -> Mapping[str, SetAside]:
    """Return what is set aside, by batch.

    Raises:
        ArtifactError: if a note is damaged.
    """
    files = sorted(workspace.set_aside("any").parent.glob("[!.]*.json"))
    return {file.stem: SetAside.load(file) for file in files}
