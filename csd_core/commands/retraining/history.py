"""`csd retrainings`: what became of each scheduled retraining."""

from csd_core.retraining.history import retrainings as recorded
from csd_core.retraining.origin import fetch_shared
from csd_core.system.console import echo, show
from csd_core.workspace import Workspace


def retrainings() -> None:
    """List the retrainings, oldest first, with their tasks, how they ended and why."""
    rows = []
    fetch_shared(Workspace())
    for each in recorded(Workspace()):
        due = f" until {each.deadline[:16].replace('T', ' ')}" if each.deadline and each.outcome == "in review" else ""
        batches = ", ".join(batch.name for batch in each.batches)
        rows.append((each.name, ", ".join(each.tasks), batches, each.outcome + due, each.why))
    if not rows:
        echo("There is no retraining yet; `csd ui` starts what schedules them.")
        return
    show(("retraining", "tasks", "batches", "outcome", "why"), rows)
