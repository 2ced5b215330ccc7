"""A process that ends with the one that started it, however that dies.

Linux ends it by itself (`PR_SET_PDEATHSIG`). The request survives an exec, so `python parent.py STARTER COMMAND...`
becomes COMMAND and nothing of the wrapper stays. Linux counts the *thread* that started a program as its parent: start
it from one that lives as long as the program may. What the program starts itself is not tied. Elsewhere than on Linux a
program outlives a starter that was killed outright. This module imports the standard library alone.
"""

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence

INTERVAL = 0.5
"""Seconds between two looks at the parent."""


def tied(command: Sequence[str]) -> list[str]:
    """Return what to start instead of `command`, so that the program cannot outlive this process.

    The wrapper is named by its file, not as a module: the program may run in another checkout.
    """
    if sys.platform != "linux":
        return list(command)
    return [sys.executable, "-I", __file__, str(os.getpid()), *command]


def die_with_parent(parent: int | None = None) -> None:
    """Ask Linux to end this process when its parent dies.

    Args:
        parent: Its number; by default that of the process that is the parent now.
    """
    if sys.platform != "linux":
        return
    parent = os.getppid() if parent is None else parent
    pr_set_pdeathsig = 1
    ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)  # it died before the request took effect


def when_parent_dies(act: Callable[[], None], *, parent: int | None = None) -> threading.Event:
    """Call `act` in a thread once the parent is gone, where a process has things to put in order first.

    Args:
        act: What to do then.
        parent: Its number; by default that of the process that is the parent now.

    Returns:
        Set it to watch no longer.
    """
    parent, done = os.getppid() if parent is None else parent, threading.Event()

    def watch() -> None:
        while not done.wait(INTERVAL):
            if os.getppid() != parent:
                act()
                return

    threading.Thread(target=watch, name="csd-parent", daemon=True).start()
    return done


def main(starter: str, *command: str) -> None:
    """Become `command`, tied to the process with the number `starter`.

    It hears Ctrl-C even if that process was started in the background, where a shell has its commands ignore it.
    """
    die_with_parent(int(starter))
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)  # noqa: S606 - no shell is wanted
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")


if __name__ == "__main__":
    main(*sys.argv[1:])
