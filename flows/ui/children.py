"""Processes that `csd ui` starts, and how they end."""

import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from csd_core.system.children import INTERVAL, end, family, lives, living, send
from csd_core.system.parent import tied

IDLE = 3.0
"""Seconds in which a worker without runs is gone."""
PATIENCE = 30.0
"""Seconds that runs have to end by themselves once their worker is gone."""
CLOSING = 15.0
"""Seconds a server has to end when it is told to."""


class Child:
    """A process of ours, in a session of its own: Ctrl-C in the terminal reaches us, and we end it in our order.

    Attributes:
        log: What it prints.
        process: It.
        started: When, on the monotonic clock.
    """

    def __init__(self, command: Sequence[str], *, log: Path, environment: Mapping[str, str]) -> None:
        self.log = log
        self.started = time.monotonic()
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as sink:
            self.process = subprocess.Popen(
                tied(command),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self.process.poll()

    def said(self, lines: int = 12) -> str:
        """Return the last it printed, and where the rest stands."""
        last = self.log.read_text("utf-8", errors="replace").rstrip().splitlines()[-lines:]
        return "\n".join([*(f"  {line}" for line in last), f"(log: {self.log})"])

    def end(self, patience: float = CLOSING) -> None:
        """Tell it to end; kill it if it does not."""
        end(family(self.process)[:1], seconds=patience)
        self.process.wait()

    def end_with_runs(self, tell: Callable[[int], None], *, idle: float = IDLE, patience: float = PATIENCE) -> None:
        """End a worker and its runs, so that nothing of them is left.

        A worker that is told to end leaves its runs alone, at once or after hours. So one with runs is killed: they see
        within a second that it is gone, keep their checkpoints, tell the server and end.

        Args:
            tell: Called with the number of runs that are stopped, if there are any.
            idle: See IDLE.
            patience: See PATIENCE.
        """
        if self.exit_code is not None:
            return
        worker = psutil.Process(self.process.pid)
        runs = _frozen(worker)
        if not runs:
            self.process.terminate()
            worker.resume()
            if not living([worker], seconds=idle):
                self.process.wait()
                return
            runs = _frozen(worker)
        if runs:
            tell(len(runs))
        processes = set(runs)
        _add_descendants(processes)
        self.process.kill()
        self.process.wait()
        _end_runs(processes, runs, patience)


def _frozen(worker: psutil.Process) -> list[psutil.Process]:
    """Return the runs of a worker that starts no other from now on."""
    worker.suspend()
    return list(worker.children())


def _end_runs(processes: set[psutil.Process], runs: Sequence[psutil.Process], patience: float) -> None:
    deadline = time.monotonic() + patience
    while any(map(lives, runs)) and time.monotonic() < deadline:
        time.sleep(INTERVAL)
        _add_descendants(processes)
    send(processes, signal.SIGKILL)
    living(processes, seconds=IDLE)


def _add_descendants(processes: set[psutil.Process]) -> None:
    for process in list(processes):
        with suppress(psutil.NoSuchProcess):
            processes.update(process.children(recursive=True))
