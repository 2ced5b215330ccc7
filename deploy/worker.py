# ruff: noqa: INP001 - a script of an image, no part of a package
"""What the container `prefect-worker` runs: the deployments, a worker and the pages of reports, until it is stopped.

`csd ui` without the server, which has a container of its own. The project is the current folder, or this machine's own
clone of the git repository that CSD_REPOSITORY names. A container that is stopped ends its runs as Ctrl-C ends those of
`csd ui`: they keep their checkpoints and tell the server.
"""

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from cyclopts import App

from csd_core.retraining.origin import fetch_shared
from csd_core.system.console import echo
from csd_core.system.endings import plain_endings
from csd_core.system.errors import CsdError, ParamsError
from csd_core.system.processes import environment
from csd_core.system.programs import version
from csd_core.workspace import Workspace
from flows.runs.clone import own_clone
from flows.ui.address import AUTH, HEARTBEAT, ServerAddress
from flows.ui.children import Child
from flows.ui.flow_server import FlowServer
from flows.ui.home_page import HomePage
from flows.ui.instance_lock import InstanceLock
from flows.ui.reports import serving
from flows.ui.server import POOL, PREFECT, Interruption

ANYWHERE = "0.0.0.0"  # noqa: S104 - of the container; compose.yaml says who reaches it

REPOSITORY, STEP = "CSD_REPOSITORY", "flows.runs.clone.own_clone"
REFRESH = 30.0
"""Seconds after which reports of other machines are fetched again."""

app = App(name="worker.py", help="Deploy the flows of this project and run them.", version=version)


def _start(name: str, *command: str) -> Child:
    told = {**environment(), "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(int(HEARTBEAT.total_seconds()))}
    return Child(command, log=Workspace().operations / "prefect" / "logs" / f"{name}.log", environment=told)


def _complete(name: str, *command: str, pause: Callable[[], None]) -> None:
    """Run a command of a few seconds."""
    step = _start(name, *command)
    try:
        while step.exit_code is None:
            pause()
    finally:
        step.end()
    if step.exit_code:
        raise CsdError(f"{name} failed; its last lines:\n{step.said()}")


def _work(workers: int, *, pause: Callable[[], None], ready: Callable[[], None]) -> None:
    """Deploy and run flows.

    Raises:
        CsdError: if a step fails or the worker ends by itself.
        KeyboardInterrupt: if we are asked to stop.
    """
    _complete("setup", sys.executable, "-m", "flows.ui.setup", POOL, pause=pause)
    _complete("deploy", *PREFECT, "--no-prompt", "deploy", "--all", pause=pause)
    worker = _start("worker", *PREFECT, "worker", "start", "--pool", POOL, "--limit", str(workers))
    try:
        ready()
        fetched = time.monotonic()
        while worker.exit_code is None:
            pause()
            if time.monotonic() > fetched + REFRESH:
                fetched = time.monotonic()
                with suppress(CsdError):  # runs tell it if the repository stays away
                    fetch_shared(Workspace())
        raise CsdError(f"the worker ended; its last lines:\n{worker.said()}")
    finally:
        worker.end_with_runs(
            lambda runs: echo(f"{runs} of its runs stopped; the next ones go on from their checkpoints")
        )


@app.default
def run(*, port: int = 4201, workers: int = 4) -> None:
    """Deploy, work, and stop when the container is stopped.

    Parameters
    ----------
    port
        Port of the pages of reports.
    workers
        Number of runs at a time.
    """
    if workers < 1:
        raise ParamsError(f"--workers {workers}: give the number of runs at a time, 1 or more")
    for name in ("PREFECT_API_URL", "PREFECT_UI_URL"):
        if not os.environ.get(name):
            raise ParamsError(f"{name}: is not set; it is the address of the server of flows")
    if os.environ.get(REPOSITORY):
        _enter_clone(os.environ[REPOSITORY])
    if not Path("prefect.yaml").is_file():
        raise ParamsError(f"{Path.cwd()}: has no prefect.yaml; mount the folder of the project there")
    reports = ServerAddress.checked(ANYWHERE, port - 1, auth=os.environ.get(AUTH))
    interruption, address = Interruption(), os.environ["PREFECT_UI_URL"]
    instance_lock = InstanceLock(Workspace().operations / "prefect")
    try:
        running = instance_lock.claim(interruption.pause)
        if running:
            raise CsdError(
                f"flows of this project run already, at {running}: two workers would take turns; stop that one"
            )
        server = FlowServer(api=os.environ["PREFECT_API_URL"], pages=address, auth=reports.auth)
        home = HomePage(Workspace(), server)
        with serving(Workspace().operations / "retrainings", (ANYWHERE, port), home=home, auth=reports.auth):
            try:
                _work(workers, pause=interruption.pause, ready=lambda: _tell_ready(instance_lock, address))
            finally:
                instance_lock.withdraw()
    except KeyboardInterrupt:
        echo("Stopped.")
    finally:
        instance_lock.release()


def _enter_clone(repository: str) -> None:
    """Work in this machine's own clone, as its runs will.

    Raises:
        ParamsError: if runs would work elsewhere.
        CsdError: if it cannot be cloned.
    """
    branch, folder = (os.environ.get(variable, "") for variable in ("CSD_BRANCH", "CSD_PROJECTS"))
    os.chdir(own_clone(repository, branch, folder)["directory"])
    if STEP not in Path("prefect.yaml").read_text(encoding="utf-8"):
        raise ParamsError(
            f"prefect.yaml: has no {STEP} under pull, so runs would look for the folder of who deployed them; add the "
            "step as docs/operations.md says, commit and push"
        )


def _tell_ready(instance_lock: InstanceLock, address: str) -> None:
    """Let a `csd ui` of this project know that it is not needed."""
    instance_lock.announce(address)
    echo(f"Flows:    {address}\nAt work.")


def main() -> None:
    """Run the command line."""
    with plain_endings():
        app()


if __name__ == "__main__":
    main()
