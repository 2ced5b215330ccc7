"""`csd ui`: a Prefect server, the deployments of prefect.yaml, a worker and the pages of reports, until Ctrl-C.

The project is the current folder. Nothing that is started here outlives this process, however it ends.
"""

import os
import signal
import sys
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

from csd_core.system.console import echo
from csd_core.system.errors import CsdError, ParamsError
from csd_core.system.processes import environment
from csd_core.workspace import Workspace
from flows.ui.address import AUTH, ServerAddress
from flows.ui.children import Child
from flows.ui.flow_server import FlowServer
from flows.ui.home_page import HomePage
from flows.ui.instance_lock import InstanceLock, answers, refuse_taken
from flows.ui.reports import serving

STARTING = 90.0
"""Seconds a server has to answer."""
SHORT_LIFE = 20.0
"""Seconds; a worker that ends sooner is not started again."""
TICK = 0.2
"""Seconds between two looks at what happens."""
POOL = "csd"
"""The work pool that the deployments of prefect.yaml name."""
PREFECT = (sys.executable, "-m", "prefect")


class Interruption:
    """Whether Ctrl-C, a closed terminal or `kill` asked us to stop; asking again changes nothing."""

    def __init__(self) -> None:
        self._asked = False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._ask)

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self._asked = True

    def pause(self) -> None:
        """Wait a moment.

        Raises:
            KeyboardInterrupt: if we are asked to stop.
        """
        time.sleep(TICK)
        if self._asked:
            raise KeyboardInterrupt


class LocalStack:
    """The server, its worker and the pages of reports, of the project in the current folder.

    Attributes:
        server_address: Where.
        workers: Runs at a time.
        folder: Of the server's files.
    """

    def __init__(
        self, server_address: ServerAddress, *, workers: int, folder: Path, interruption: Interruption
    ) -> None:
        self.server_address = server_address
        self.workers = workers
        self.folder = folder
        self._pause = interruption.pause
        self._environment = server_address.environment(environment(), home=folder)
        self._worker: Child | None = None

    def run(self, instance_lock: InstanceLock) -> None:
        """Start everything, and stop it when we are asked to or when something fails.

        Raises:
            CsdError: if something fails.
            KeyboardInterrupt: if we are asked to.
        """
        workspace, auth = Workspace(), self.server_address.auth
        address = (self.server_address.host, self.server_address.reports_port)
        server_of_flows = FlowServer(
            api=self._environment["PREFECT_API_URL"], pages=self._environment["PREFECT_UI_URL"], auth=auth
        )
        home = HomePage(workspace, server_of_flows)
        with serving(workspace.operations / "retrainings", address, home=home, auth=auth):
            _tell(f"Starting; logs are in {self.folder / 'logs'}")
            server = self._start("server", *PREFECT, "server", "start")
            try:
                self._await_answer(server)
                self._complete("setup", sys.executable, "-m", "flows.ui.setup", POOL)
                self._complete("deploy", *PREFECT, "--no-prompt", "deploy", "--all")
                self._worker = self._start_worker()
                instance_lock.announce(self.server_address.url)
                _tell(f"Home:     {self.server_address.reports_url}\nFlows:    {self.server_address.ui_url}")
                _tell("Ctrl-C stops all.")
                self._watch(server)
            finally:
                instance_lock.withdraw()
                self._stop(server)

    def _start(self, name: str, *command: str) -> Child:
        return Child(command, log=self.folder / "logs" / f"{name}.log", environment=self._environment)

    def _start_worker(self) -> Child:
        return self._start("worker", *PREFECT, "worker", "start", "--pool", POOL, "--limit", str(self.workers))

    def _await_answer(self, server: Child) -> None:
        while not answers(self.server_address.url):
            if server.exit_code is not None:
                raise CsdError(f"the server did not start; its last lines:\n{server.said()}")
            if time.monotonic() > server.started + STARTING:
                raise CsdError(f"the server does not answer after {STARTING:g} s; its last lines:\n{server.said()}")
            self._pause()

    def _complete(self, name: str, *command: str) -> None:
        """Run a command of a few seconds."""
        step = self._start(name, *command)
        try:
            while step.exit_code is None:
                self._pause()
        finally:
            step.end()
        if step.exit_code:
            raise CsdError(f"{name} failed; its last lines:\n{step.said()}")

    def _watch(self, server: Child) -> None:
        while True:
            self._pause()
            if server.exit_code is not None:
                raise CsdError(f"the server ended; its last lines:\n{server.said()}")
            if self._worker and self._worker.exit_code is not None:
                last = f"the worker ended; its last lines:\n{self._worker.said()}"
                if time.monotonic() < self._worker.started + SHORT_LIFE:
                    raise CsdError(last)
                _tell(f"Starting the worker again: {last}")
                self._worker = self._start_worker()

    def _stop(self, server: Child) -> None:
        """End the worker, then its runs, and last the server, to which runs report how they end."""
        _tell("Stopping ...")
        try:
            if self._worker:
                self._worker.end_with_runs(_tell_stopped)
        finally:
            server.end()


def _tell_stopped(runs: int) -> None:
    what = "1 run is" if runs == 1 else f"{runs} runs are"
    _tell(f"{what} stopped; the next run continues from the checkpoint")


def _tell(text: str) -> None:
    """Print to a terminal that may have been closed."""
    with suppress(OSError):
        echo(text)


def ui(*, host: str = "127.0.0.1", port: int = 4200, workers: int = 4) -> None:
    """Start scheduled retraining: server, worker and home page; Ctrl-C stops everything.

    Parameters
    ----------
    host
        Address to listen at; other machines reach only an address of their network.
    port
        Port of the server; the home page is at the next port.
    workers
        Number of runs at a time. Only one of them retrains, so that approval, publishing and rollback do not wait
        for it.
    """
    if find_spec("prefect") is None:
        raise CsdError("`csd ui` needs Prefect, which is not installed here: pip install 'csd[flows]'")
    if workers < 1:
        raise ParamsError(f"--workers {workers}: give the number of runs at a time, 1 or more")
    if not Path("prefect.yaml").is_file():
        raise ParamsError(f"{Path.cwd()}: has no prefect.yaml; start in the folder of the project")
    server_address = ServerAddress.checked(host, port, auth=os.environ.get(AUTH))
    folder, interruption = Workspace().operations / "prefect", Interruption()
    instance_lock = InstanceLock(folder)
    try:
        running = instance_lock.claim(interruption.pause)
        if running:
            _tell(f"The server of this project runs already: {running}")
            return
        refuse_taken(server_address)
        LocalStack(server_address, workers=workers, folder=folder, interruption=interruption).run(instance_lock)
    except KeyboardInterrupt:
        _tell("Stopped.")
    finally:
        instance_lock.release()
