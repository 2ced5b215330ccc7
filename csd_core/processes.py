"""How csd starts other programs, and how they end with it."""

import ctypes
import os
import signal
import sys
from pathlib import Path


def environment() -> dict[str, str]:
    """Of a program that runs stages: they take the Python that runs us, whether or not its environment is activated."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1"}


def die_with_parent() -> None:
    """Ask Linux to end this process when its parent dies, however it does: nobody would wait for it any more."""
    if sys.platform != "linux":
        return
    parent = os.getppid()
    pr_set_pdeathsig = 1
    ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)  # the parent died before the request took effect
