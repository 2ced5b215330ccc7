"""The program `csd`: it runs one command and ends plainly. The commands are in `csd_core.commands`.

Nothing heavy is imported at the top, so that Ctrl-C ends plainly from the first moment on.
"""

import sys

from csd_core.endings import loading, plain_endings
from csd_core.processes import wait_briefly


def main(arguments: list[str] | None = None) -> None:
    """Run the command line, on this process's arguments unless others are given."""
    with plain_endings():
        wait_briefly()
        with loading():
            from csd_core.commands.tree import app  # noqa: PLC0415 - see the module's docstring

            command, bound, _ = app.parse_args(sys.argv[1:] if arguments is None else arguments)
        command(*bound.args, **bound.kwargs)
    sys.exit(0)


if __name__ == "__main__":
    main()
