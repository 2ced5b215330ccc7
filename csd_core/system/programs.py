"""Programs with a command line, such as `csd`: load, run a command, and end.

Nothing heavy is imported at the top, so that Ctrl-C ends a program plainly from its first moment on.
"""

import importlib
import sys
from typing import NoReturn

from csd_core.system.endings import loading, plain_endings
from csd_core.system.errors import ParamsError


def version() -> str:
    """Return the name and version of what is installed."""
    from importlib import metadata  # noqa: PLC0415 - see the module's docstring

    return f"csd {metadata.version('csd')}"


def run_app(module: str, arguments: list[str] | None = None) -> NoReturn:
    """Run the `app` of a module on this process's arguments, unless others are given, and exit."""
    with plain_endings():
        with loading():
            app = importlib.import_module(module).app
            from cyclopts import CycloptsError  # noqa: PLC0415 - see the module's docstring

            given = sys.argv[1:] if arguments is None else arguments
            try:
                command, bound, _ = app.parse_args(given, exit_on_error=False, print_error=False)
            except CycloptsError as error:
                asked = " ".join([*app.name, *(error.command_chain or ())])
                problem = " ".join(str(error).split()).rstrip(".")
                raise ParamsError(f"{problem}; `{asked} --help` shows what it takes") from None
        command(*bound.args, **bound.kwargs)
    sys.exit(0)
