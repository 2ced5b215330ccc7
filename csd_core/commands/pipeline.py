"""`csd run` and `csd summary`."""

import subprocess

from csd_core.console import say
from csd_core.errors import CsdError, DataError
from csd_core.params import Params
from csd_core.processes import environment
from csd_core.reporting.summary import print_summary
from csd_core.workspace import Workspace


def run() -> None:
    """Run what is stale of the pipeline (`dvc repro`), then print the summary."""
    files = Workspace()
    _check_inputs(files, files.params())
    if subprocess.run(["dvc", "status", "--quiet"], env=environment(), check=False).returncode == 0:
        say("Nothing to do: data, code and parameters are as they were when the artefacts were made.")
    else:
        done = subprocess.run(["dvc", "repro"], env=environment(), check=False)
        if done.returncode:
            raise CsdError(
                "the pipeline stopped; its message stands above. Mend it and run again: finished work is kept"
            )
    print_summary(files.metrics, files.page)


def _check_inputs(files: Workspace, params: Params) -> None:
    for name, source in params.sources.folders.items():
        if not files.path(source.path).is_dir():
            raise DataError(
                f"params.yaml: sources.folders.{name}.path: {source.path}: there is no such folder; put a folder of "
                "images for each class in it, or name another"
            )


def summary() -> None:
    """Print the table of the last run."""
    files = Workspace()
    print_summary(files.metrics, files.page)
