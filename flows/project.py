"""The project that a flow run works for, and what the run is called."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import chain, count
from pathlib import Path

from prefect.runtime import flow_run

from csd_core.retraining.origin import fetch_shared
from csd_core.system.errors import CsdError
from csd_core.system.locks import Lock
from csd_core.workspace import Workspace
from flows.runs.checkout import git

LONGEST = 60
"""Characters of a run's name that are kept."""
REPORTS = "CSD_REPORTS_URL"
"""Where `csd ui` serves the reports of retrainings."""


def open_project() -> Workspace:
    """Return the project: the working directory, as the deployment sets it, with what other machines pushed.

    Raises:
        CsdError: if it holds none, or the repository that it shares cannot be reached.
    """
    project = Workspace(Path.cwd().resolve())
    if not (project.root / "params.yaml").is_file() or not (project.root / "dvc.yaml").is_file():
        raise CsdError(f"{project.root}: holds no params.yaml and dvc.yaml; run the flow in the folder of a project")
    fetch_shared(project)
    return project


def run_name(project: Workspace) -> str:
    """Date and name of this flow run, fit for a branch, a folder and an address, and not taken."""
    words = re.sub(r"[^a-z0-9]+", "-", str(flow_run.get_name() or "").lower()).strip("-")[:LONGEST].strip("-") or "run"
    name = f"{datetime.now(UTC):%Y-%m-%d}-{words}"
    taken = set(git(project.root, "for-each-ref", "--format=%(refname:lstrip=3)", "refs/heads/retrain/").split())
    names = chain([name], (f"{name}-{number}" for number in count(2)))  # a run may be called like one before
    return next(each for each in names if each not in taken and not project.retraining(each).exists())


def report_url(name: str) -> str | None:
    """Return where the report of a retraining can be opened; None where nobody serves it."""
    address = os.environ.get(REPORTS)
    return f"{address.rstrip('/')}/{name}.html" if address else None


@contextmanager
def alone(project: Workspace) -> Iterator[None]:
    """Keep a second retraining of the project out; a killed one holds nothing.

    Raises:
        CsdError: if one is at work, naming it.
    """
    with Lock(project.operations / "retrain.lock", what="the retraining of this project").held(wait=0):
        yield
