"""`dvc repro` in a cell, as a child process that is watched, logged, and ended with us."""

import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from csd_core.comparison.running.run_folder import Bench
from csd_core.comparison.running.timings import RUNS, Watch
from csd_core.system.children import end, family
from csd_core.system.errors import CsdError
from csd_core.system.parent import tied
from csd_core.system.processes import environment

LAST_LINES = 8
"""Of the log of a failed cell that are shown."""

GRACE = 20.0
"""Seconds that an interrupted stage has before it is killed."""


TAKES_DIGESTS = "code"
"""The stage that always runs."""


class Children:
    """The processes at work; once interrupted, it starts no more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._processes: set[subprocess.Popen[str]] = set()
        self.interrupted = False

    def start(self, folder: Path) -> subprocess.Popen[str] | None:
        """`dvc repro` in a folder and a process group of its own; None once interrupted."""
        with self._lock:
            if self.interrupted:
                return None
            process = subprocess.Popen(
                tied(["dvc", "repro"]),
                cwd=folder,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,
            )
            self._processes.add(process)
        return process

    def ended(self, process: subprocess.Popen[str]) -> None:
        """It needs no interruption any more."""
        with self._lock:
            self._processes.discard(process)

    def interrupt(self) -> None:
        """Ask all to stop as Ctrl-C does; kill those that do not."""
        with self._lock:
            self.interrupted = True
            processes = [each for process in self._processes for each in family(process)]
        end(processes, seconds=GRACE, ask=signal.SIGINT)


def reproduce(bench: Bench, children: Children, *, on_stage: Callable[[str], None]) -> bool:
    """Run what is stale in a cell.

    Args:
        bench: The cell's folder, set up.
        children: Where the process is kept.
        on_stage: Told the name of each stage that starts.

    Returns:
        Whether a stage ran or came from the cache, but for the one that takes digests of the code.

    Raises:
        CsdError: with the last lines of the log, if it failed.
        KeyboardInterrupt: if it was interrupted.
    """
    watch, last, busy = Watch(bench.timings), deque[str](maxlen=LAST_LINES), False
    process = children.start(bench.root)
    if process is None or process.stdout is None:
        raise KeyboardInterrupt
    try:
        with process.stdout, bench.log.open("a", encoding="utf-8") as log:
            log.write(f"--- {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC: dvc repro\n")
            for line in process.stdout:
                log.write(line)
                log.flush()
                last.append(line.rstrip())
                before = watch.running
                watch.see(line)
                ran = RUNS.match(line)
                busy = busy or "is cached" in line or (ran is not None and ran[1] != TAKES_DIGESTS)
                if watch.running and watch.running != before:
                    on_stage(watch.running)
        failed = process.wait() != 0
    finally:
        children.ended(process)
    watch.stop(finished=not failed)
    if children.interrupted:
        raise KeyboardInterrupt
    if failed:
        shown = "\n".join(f"    {line}" for line in last if line)
        raise CsdError(f"dvc repro failed; the end of {bench.log}:\n{shown}")
    return busy
