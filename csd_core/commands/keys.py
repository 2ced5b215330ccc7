"""`csd keys`: who may ask the service."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from rich.table import Table

from csd_core.console import console, say
from csd_core.serving.keys import FILE, KeyFile, Role, issue, revoke

app = App(name="keys", help="Make, list and revoke keys of the service.")
KeysFile = Annotated[Path, Parameter(name="--file")]


@app.command
def add(name: str, *, role: Role, file: KeysFile = Path(FILE)) -> None:
    """Make a key and print it; it is kept nowhere.

    Parameters
    ----------
    name
        Whose.
    role
        read: embed and search; write: put and delete items too.
    file
        Where its hash is kept.
    """
    token = issue(file, name, role)
    sys.stdout.write(token + "\n")
    sys.stdout.flush()
    print(f"keep it: {file} has its hash alone", file=sys.stderr)  # noqa: T201 - so that stdout is the key


@app.command(name="list")
def list_keys(*, file: KeysFile = Path(FILE)) -> None:
    """Show the keys' names and roles.

    Parameters
    ----------
    file
        Where the hashes are kept.
    """
    table = Table("name", "role", "made (UTC)", box=None)
    for key in KeyFile.at(file).keys:
        table.add_row(key.name, key.role, key.created.removesuffix("+00:00"))
    console.print(table)


@app.command(name="revoke")
def revoke_key(name: str, *, file: KeysFile = Path(FILE)) -> None:
    """Remove a key; running services refuse it within seconds.

    Parameters
    ----------
    name
        Whose.
    file
        Where the hashes are kept.
    """
    revoke(file, name)
    say(f"key {name} is revoked")
