"""`csd run` and `csd summary`."""

from csd_core.commands.dvc import BUSY, NOTHING, clear_the_way, reproduce, stale_stages
from csd_core.report.advice.task import latest, lines
from csd_core.report.summary import print_summary
from csd_core.system.console import echo
from csd_core.system.errors import CsdError
from csd_core.workspace import Workspace


def run() -> None:
    """Run the stale stages of the pipeline (`dvc repro`), then print the summary."""
    workspace = Workspace()
    clear_the_way(workspace, workspace.params())
    stale = stale_stages(workspace)
    if stale is None:
        raise CsdError(BUSY)
    if stale:
        reproduce(workspace)
    else:
        echo(NOTHING)
    _summarise(workspace)


def summary() -> None:
    """Print the tables of the last run."""
    _summarise(Workspace())


def _summarise(workspace: Workspace) -> None:
    """Print the tables, and the advice."""
    print_summary(workspace.metrics, workspace.page)
    print_advice(workspace)


def print_advice(workspace: Workspace) -> None:
    """Print warnings on the last candidates and, of those that were rejected since a promotion, what can be done."""
    for found in latest(workspace, workspace.params()):
        for line in lines(*found):
            echo(line)
