"""A program that Linux ends together with its starter: `python -m flows.ui.tether STARTER COMMAND...` becomes COMMAND.

The request (`PR_SET_PDEATHSIG`) survives the exec, so nothing of the wrapper stays. Linux counts the *thread* that
started the program as its parent: start it from one that lives as long as the program may. What the program starts
itself is not tethered. Elsewhere than on Linux a program outlives a starter that was killed outright.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence


def tethered(command: Sequence[str]) -> list[str]:
    """Return what this process starts instead of `command`, so that the program cannot outlive it.

    The wrapper is named by its file, not as a module: the program may run in another checkout, which has a `flows` of
    its own.
    """
    if sys.platform != "linux":
        return list(command)
    return [sys.executable, "-I", __file__, str(os.getpid()), *command]


def main(starter: str, *command: str) -> None:
    """Become `command`, tethered to the process with the number `starter`."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGKILL)
        if os.getppid() != int(starter):
            sys.exit(1)  # it died before the request took effect
    try:
        os.execvp(command[0], command)  # noqa: S606 - no shell is wanted
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")


if __name__ == "__main__":
    main(*sys.argv[1:])
