"""Batches whose files turned out to be no images: remembered, so that they are not counted again each day."""

from csd_core.records.stages import Digest, Record
from csd_core.retraining.inbox import InboxBatch
from csd_core.retraining.origin import share
from csd_core.retraining.unusable_files import UnusableFile
from csd_core.workspace import Workspace


class UnusableBatch(Record):
    """operations/unusable/<batch>.json."""

    name: str
    digest: Digest
    """As it was when it was looked at; another one is looked at again."""
    why: str
    files: tuple[UnusableFile, ...] = ()
    """The first of the files that are no usable images; none in a note of before."""


def remember(workspace: Workspace, inbox_batch: InboxBatch, why: str, files: tuple[UnusableFile, ...] = ()) -> None:
    """Note that a batch cannot be used as it is, and which of its files are to blame."""
    note = UnusableBatch(name=inbox_batch.name, digest=inbox_batch.digest, why=why, files=files)
    note.save(workspace.unusable(inbox_batch.name))
    share(workspace, workspace.unusable(inbox_batch.name))


def note_on(workspace: Workspace, inbox_batch: InboxBatch) -> UnusableBatch | None:
    """Return the note that a batch cannot be used as it is; None as far as is known.

    Raises:
        ArtifactError: if the note is damaged.
    """
    if not workspace.unusable(inbox_batch.name).is_file():
        return None
    noted = UnusableBatch.load(workspace.unusable(inbox_batch.name))
    return noted if noted.digest == inbox_batch.digest else None


def why_unusable(workspace: Workspace, inbox_batch: InboxBatch) -> str | None:
    """Return why a batch cannot be used as it is; None as far as is known.

    Raises:
        ArtifactError: if the note is damaged.
    """
    noted = note_on(workspace, inbox_batch)
    return noted.why if noted else None
