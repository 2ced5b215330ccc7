"""How a stage starts and ends as a process of its own."""

import sys
from collections.abc import Callable

from csd_core.console import say
from csd_core.errors import CsdError
from csd_core.processes import die_with_parent


def run_stage(main: Callable[..., None]) -> None:
    """Call `main` with the command line's arguments; a CsdError becomes its message and exit code."""
    die_with_parent()  # DVC killed outright would leave its stages running
    try:
        main(*sys.argv[1:])
    except CsdError as error:
        sys.stdout.flush()
        print(error, file=sys.stderr)  # noqa: T201 - a stage's one line for a person
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        say("interrupted; run again to resume")
        sys.exit(130)
