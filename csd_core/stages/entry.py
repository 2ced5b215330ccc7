"""How a stage starts and ends as a process of its own."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable

from csd_core.console import say
from csd_core.errors import CsdError


def run_stage(main: Callable[..., None]) -> None:
    """Call `main` with the command line's arguments; a CsdError becomes its message and exit code."""
    _die_with_parent()
    try:
        main(*sys.argv[1:])
    except CsdError as error:
        sys.stdout.flush()
        print(error, file=sys.stderr)  # noqa: T201 - a stage's one line for a person
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        say("interrupted; run again to resume")
        sys.exit(130)


def _die_with_parent() -> None:
    """Ask Linux to end this process when its parent dies: DVC killed outright leaves its stages running."""
    if sys.platform != "linux":
        return
    parent = os.getppid()
    pr_set_pdeathsig = 1
    ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)  # the parent died before the request took effect
