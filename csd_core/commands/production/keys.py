"""`csd keys`: who may ask the service."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from csd_core.serving.keys import FILE, KeyFile, Role, issue, revoke
from csd_core.system.console import echo, show

app = App(name="keys", help="Make, list and revoke keys of the service.")
KeysFile = Annotated[Path, Parameter(name="--file")]


@app.command
def add(name: str, *, role: Role, file: KeysFile = Path(FILE)) -> None:
    """Make a key and print it; it cannot be shown again.

    Parameters
    ----------
    name
        Name of who uses the key.
    role
        What the key allows: read embeds and searches, write also puts and deletes items.
    file
        File to store the hash of the key in.
    """
    token = issue(file, name, role)
    sys.stdout.write(token + "\n")
    sys.stdout.flush()
    print(f"store it now: {file} has only its hash", file=sys.stderr)  # noqa: T201 - so that stdout is the key


@app.command(name="list")
def list_keys(*, file: KeysFile = Path(FILE)) -> None:
    """List the names and roles of the keys.

    Parameters
    ----------
    file
        File that the hashes of the keys are stored in.
    """
    rows = [(key.name, key.role, key.created.removesuffix("+00:00")) for key in KeyFile.at(file).keys]
    show(("name", "role", "made (UTC)"), rows)


@app.command(name="revoke")
def revoke_key(name: str, *, file: KeysFile = Path(FILE)) -> None:
    """Remove a key; running services refuse it within seconds.

    Parameters
    ----------
    name
        Name of who uses the key.
    file
        File that the hashes of the keys are stored in.
    """
    revoke(file, name)
    echo(f"key {name} is revoked")
