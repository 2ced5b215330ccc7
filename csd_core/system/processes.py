"""How csd starts other programs, how their threads wait for each other, and how they ended."""

import os
import signal
import sys
from collections.abc import MutableMapping
from pathlib import Path

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")
"""Environment variables by which a person says how OpenMP's threads wait."""

SPINS = "1000"
"""Turns that a waiting thread spins before it sleeps."""


def environment() -> dict[str, str]:
    """Of a program that runs stages: they take the Python that runs us, whether or not its environment is activated."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1"}


def wait_briefly(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let OpenMP's threads sleep soon while they wait, unless a person chose otherwise.

    By default they spin for milliseconds. Alone on the cores that saves waking them for each operation of a network;
    beside other work it keeps the cores from what is waited for, and a training falls to a tenth of its speed. The
    weights are the same. Call it before torch is loaded: OpenMP reads the environment once, then.
    """
    if not any(name in environment for name in WAITING):
        environment["GOMP_SPINCOUNT"] = SPINS


def dvc_is_busy(output: str) -> bool:
    """Return whether DVC failed because another of its processes works in the same project."""
    return "Unable to acquire lock" in output or "is busy, it is being" in output


def ended(code: int | None) -> str:
    """Return in words how a process ended.

    Args:
        code: Its exit code; a negative one is a signal.
    """
    if code is not None and code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        return f"ended by {name}" + (" (out of memory?)" if -code == signal.SIGKILL else "")
    return f"ended with code {code}"
