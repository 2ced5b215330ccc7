"""What became of each retraining: a record a run, below operations/retrainings."""

from collections.abc import Iterable
from typing import Literal

from csd_core.records.stages import Digest, Record
from csd_core.retraining.inbox import InboxBatch
from csd_core.retraining.manifests import TakenBatch
from csd_core.retraining.origin import share
from csd_core.system.errors import ArtifactError, ParamsError
from csd_core.workspace import Workspace

Outcome = Literal["unfinished", "in review", "published", "images only", "kept", "rejected", "refused", "outdated"]
"""unfinished: recorded, and then its run died; in review: it waits for a person; published: a candidate became active;
images only: all candidates were rejected, and the new images became searchable under the champion; kept: done, but the
deployment does not publish; rejected: the gate or a person rejected it, nothing was published; refused: publishing was
refused; outdated: another release came first."""


class Retraining(Record):
    """operations/retrainings/<name>.json."""

    name: str
    branch: str
    commit: str
    """Of the branch, with all it made."""
    base: str
    """The commit it started from."""
    release: str | None
    """Name of the release that was active when it began."""
    tasks: tuple[str, ...]
    """Whose stages it ran: those whose promotion is new."""
    batches: tuple[TakenBatch, ...]
    """That it took from the inbox."""
    settings: Digest
    """sha256 of what the run was asked for beyond params.yaml."""
    outcome: Outcome
    why: str
    """One sentence."""
    flow_run: str | None
    """Its id."""
    publishes: bool
    """Whether an approval publishes."""
    on_reject: Literal["carry_on", "stop"]
    began: str
    """UTC, ISO 8601."""
    ended: str
    deadline: str | None
    """Of a review."""

    def save_to(self, workspace: Workspace) -> None:
        """Write it where `retrainings` looks, on this machine and, where the project shares its records, on others."""
        self.save(workspace.retraining(self.name))
        share(workspace, workspace.retraining(self.name))


def retrainings(workspace: Workspace) -> tuple[Retraining, ...]:
    """Return all retrainings, oldest first.

    Raises:
        ArtifactError: if a record is damaged.
    """
    found: list[Retraining] = []
    for path in workspace.retraining("any").parent.glob("*.json"):
        if path.name.startswith("."):
            continue  # being written
        try:
            record = Retraining.load(path)
        except ArtifactError as error:
            raise ArtifactError(
                f"{str(error).removesuffix('; make it again')}; restore it from a backup, or remove it"
            ) from None
        if record.name != path.stem:
            raise ArtifactError(f"{path}: is the record of retraining {record.name}; name it {record.name}.json")
        found.append(record)
    return tuple(sorted(found, key=lambda record: (record.began, record.name)))


def find(workspace: Workspace, name: str) -> Retraining:
    """Return a retraining by its name or its branch; the newest, if a branch had several.

    Raises:
        ParamsError: if there is none.
    """
    every = retrainings(workspace)
    named = [record for record in every if record.name == name] or [record for record in every if record.branch == name]
    if named:
        return named[-1]
    waiting = ", ".join(record.name for record in every if record.outcome == "in review") or "none"
    raise ParamsError(f"retraining {name}: there is no such retraining; in review: {waiting}")


def settled(
    workspace: Workspace, *, base: str, inbox_batches: Iterable[InboxBatch], settings: Digest | None
) -> Retraining | None:
    """Return the newest retraining of just these batches from the same commit with the same settings.

    Another try would give the same; one that waits for a person has not given its outcome yet.

    Args:
        workspace: The project.
        base: The commit that a retraining would start from.
        inbox_batches: The batches that it would take; none for one that only brings the pipeline up to date.
        settings: As in the record; None for any.
    """
    wanted = {(inbox_batch.name, inbox_batch.digest) for inbox_batch in inbox_batches}
    for record in reversed(retrainings(workspace)):
        same = record.base == base and {(batch.name, batch.digest) for batch in record.batches} == wanted
        if same and settings in (None, record.settings) and record.outcome != "unfinished":
            return record
    return None
