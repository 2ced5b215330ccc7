"""`csd retrainings`: what became of each scheduled retraining."""

from rich.table import Table

from csd_core.console import console, say
from csd_core.operations.retrainings import retrainings as recorded
from csd_core.workspace import Workspace


def retrainings() -> None:
    """List the retrainings, oldest first, with their tasks, how they ended and why."""
    table = Table("retraining", "tasks", "batches", "outcome", "why", box=None)
    table.columns[0].no_wrap = True
    for each in recorded(Workspace()):
        due = f" until {each.deadline[:16].replace('T', ' ')}" if each.deadline and each.outcome == "in review" else ""
        batches = ", ".join(batch.name for batch in each.batches)
        table.add_row(each.name, ", ".join(each.tasks), batches, each.outcome + due, each.why)
    if not table.row_count:
        say("There is no retraining yet; `make ui` starts what schedules them.")
        return
    console.print(table)
