"""The program `csd`; its commands are in `csd_core.commands`."""

from csd_core.system.processes import wait_briefly
from csd_core.system.programs import run_app


def main(arguments: list[str] | None = None) -> None:
    """Run the command line, on this process's arguments unless others are given."""
    wait_briefly()
    run_app("csd_core.commands.tree", arguments)


if __name__ == "__main__":
    main()
