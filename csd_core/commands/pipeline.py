"""`csd run` and `csd summary`."""

from csd_core.commands.dvc import BUSY, clear_the_way, reproduce, stale_stages
from csd_core.console import say
from csd_core.errors import CsdError
from csd_core.reporting.summary import print_summary
from csd_core.workspace import Workspace


def run() -> None:
    """Run the stale stages of the pipeline (`dvc repro`), then print the summary."""
    files = Workspace()
    clear_the_way(files, files.params())
    stale = stale_stages()
    if stale is None:
        raise CsdError(BUSY)
    if stale:
        reproduce()
    else:
        say("Nothing to do: data, code and parameters are as they were when the artefacts were made.")
    print_summary(files.metrics, files.page)


def summary() -> None:
    """Print the tables of the last run."""
    files = Workspace()
    print_summary(files.metrics, files.page)
