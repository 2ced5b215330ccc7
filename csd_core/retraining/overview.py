"""How the inbox stands: its batches, what a retraining would take of them, and when."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from csd_core.retraining.history import Retraining, retrainings, settled
from csd_core.retraining.inbox import Inbox
from csd_core.retraining.manifests import TakenBatch, taken_at
from csd_core.retraining.policy import BatchStatus, Due, Waiting, batch_status, decide
from csd_core.retraining.start import Start, known_classes, starting_point
from csd_core.retraining.unusable import why_unusable
from csd_core.system.errors import CsdError
from csd_core.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxOverview:
    """How the inbox stands.

    Attributes:
        uri: As params.yaml has it.
        statuses: How each batch stands, by name.
        known_classes: That tasks have already.
        decision: Whether a task is due, and why.
        tried: The retraining that tried just these batches from the same commit already; None if none did.
        unknown: Why it is not known what tasks took already; empty where it is.
    """

    uri: str
    statuses: tuple[BatchStatus, ...]
    known_classes: frozenset[str]
    decision: Due | Waiting
    tried: Retraining | None
    unknown: str

    @property
    def words(self) -> str:
        """Whether a task is due, as a sentence."""
        return f"{'a task is due: ' if isinstance(self.decision, Due) else ''}{self.decision.why}"

    @property
    def tried_in_words(self) -> str:
        """What came of the same batches before; empty where they were not tried."""
        if self.tried is None:
            return ""
        return (
            f"just these batches were {self.tried.outcome} in retraining {self.tried.name} ({self.tried.why}); trying "
            "again would give the same, until another batch arrives or another commit is the start"
        )


def inbox_overview(workspace: Workspace, *, now: datetime) -> InboxOverview:
    """Return how the inbox stands, from one listing; no image is opened.

    Args:
        workspace: The project.
        now: Aware.

    Raises:
        ParamsError: if params.yaml is wrong.
        DataError: if the inbox cannot be listed.
        ArtifactError: if a record is damaged.
    """
    params = workspace.params()
    inbox_batches = Inbox.of(workspace, params.inbox).inbox_batches()
    start: Start | None = None
    taken: Mapping[str, tuple[str, TakenBatch]] = {}
    unknown = ""
    try:
        start = starting_point(workspace, None)
        known, taken = known_classes(workspace, start), taken_at(workspace.root, start.commit)
    except CsdError as error:
        start, unknown = None, str(error)
        known = frozenset(label for task in params.tasks.values() for label in task.classes or ())
    reviews = retrainings(workspace)
    statuses = tuple(
        batch_status(each, taken=taken, reviews=reviews, unusable=why_unusable(workspace, each))
        for each in inbox_batches
    )
    waiting = [each.inbox_batch for each in statuses if each.state == "waits"]
    tried = None
    if waiting and start:
        tried = settled(workspace, base=start.commit, inbox_batches=waiting, settings=None)
    return InboxOverview(
        uri=params.inbox.uri,
        statuses=statuses,
        known_classes=known,
        decision=decide(waiting, known_classes=known, policy=params.inbox, now=now),
        tried=tried,
        unknown=unknown,
    )
