"""How a stage starts and ends as a process of its own.

`python -m csd_core.stages.NAME` calls `run_stage` before it imports anything else: the stage's libraries load inside,
where Ctrl-C ends plainly and where the environment that they read can still be set.
"""

import importlib
import inspect
import os
import sys
from typing import NoReturn

from csd_core.stages.environment import enter
from csd_core.system.endings import loading, plain_endings
from csd_core.system.errors import ParamsError
from csd_core.system.parent import die_with_parent


def run_stage(name: str) -> NoReturn:
    """Call the stage's `main` with the command line's arguments, and exit."""
    said = "" if os.environ.get("RANK", "0") != "0" else "interrupted; run again to resume"
    with plain_endings(said):
        enter()
        die_with_parent()  # DVC killed outright would leave its stages running
        with loading(said):
            main = importlib.import_module(f"csd_core.stages.{name}").main
        arguments = sys.argv[1:]
        wanted = inspect.signature(main).parameters
        if len(arguments) != len(wanted):
            usage = " ".join(["python -m", f"csd_core.stages.{name}", *(each.upper() for each in wanted)])
            raise ParamsError(f"{len(arguments)} arguments were given; call it as `{usage}`")
        main(*arguments)
    sys.exit(0)
