"""`csd run` and `csd summary`."""

from csd_core.commands.dvc import BUSY, NOTHING, clear_the_way, reproduce, stale_stages
from csd_core.records.verdict import Rejected, VerdictFile
from csd_core.report.summary import print_summary
from csd_core.system.console import say
from csd_core.system.errors import CsdError
from csd_core.workspace import Workspace


def run() -> None:
    """Run the stale stages of the pipeline (`dvc repro`), then print the summary."""
    files = Workspace()
    clear_the_way(files, files.params())
    stale = stale_stages(files)
    if stale is None:
        raise CsdError(BUSY)
    if stale:
        reproduce(files)
    else:
        say(NOTHING)
    _summarise(files)


def summary() -> None:
    """Print the tables of the last run."""
    _summarise(Workspace())


def _summarise(files: Workspace) -> None:
    """Print the tables, and what can be done about each candidate that was rejected."""
    print_summary(files.metrics, files.page)
    for task in files.params().tasks:
        if files.verdict(task).is_file():
            verdict = VerdictFile.load(files.verdict(task)).verdict
            if isinstance(verdict, Rejected):
                say(f"{task}: {verdict.told}")
