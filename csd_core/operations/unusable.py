"""Batches whose files turned out to be no images: remembered, so that they are not counted again each day."""

from csd_core.operations.inbox import Arrival
from csd_core.records import Digest, Record
from csd_core.workspace import Workspace


class UnusableBatch(Record):
    """operations/unusable/<batch>.json."""

    name: str
    digest: Digest
    """As it was when it was looked at; another one is looked at again."""
    why: str


def remember(files: Workspace, arrival: Arrival, why: str) -> None:
    """Note that a batch cannot be used as it is."""
    UnusableBatch(name=arrival.name, digest=arrival.digest, why=why).save(files.unusable(arrival.name))


def why_unusable(files: Workspace, arrival: Arrival) -> str | None:
    """Return why a batch cannot be used as it is; None as far as is known.

    Raises:
        ArtifactError: if the note is damaged.
    """
    if not files.unusable(arrival.name).is_file():
        return None
    noted = UnusableBatch.load(files.unusable(arrival.name))
    return noted.why if noted.digest == arrival.digest else None
