"""How programs that were started here are ended. Nothing is reaped: exit codes stay for whoever started them."""

import signal
import subprocess
import time
from collections.abc import Collection
from contextlib import suppress
from typing import Any

import psutil

INTERVAL = 0.1
"""Seconds between two looks at a process."""


def family(process: subprocess.Popen[Any]) -> list[psutil.Process]:
    """Return a process and all that it started, itself first; nothing where it has ended."""
    with suppress(psutil.NoSuchProcess):
        if process.poll() is None:
            head = psutil.Process(process.pid)
            return [head, *head.children(recursive=True)]
    return []


def lives(process: psutil.Process) -> bool:
    """Return whether it does; what has ended, but nobody has asked for its exit code, does not."""
    with suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


def living(processes: Collection[psutil.Process], *, seconds: float) -> list[psutil.Process]:
    """Wait until all have ended, but no longer than this; return those that have not."""
    deadline = time.monotonic() + seconds
    while (left := list(filter(lives, processes))) and time.monotonic() < deadline:
        time.sleep(INTERVAL)
    return left


def end(processes: Collection[psutil.Process], *, seconds: float, ask: signal.Signals = signal.SIGTERM) -> None:
    """Ask all to end, kill those that have not after a while, and wait until these are gone.

    Args:
        processes: The programs.
        seconds: How long they have.
        ask: The signal that asks them.
    """
    send(processes, ask)
    left = living(processes, seconds=seconds)
    send(left, signal.SIGKILL)
    living(left, seconds=seconds)


def send(processes: Collection[psutil.Process], number: signal.Signals) -> None:
    """Send a signal to all that are still there."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)
