"""`csd profile`: the parameters to start from."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from csd_core.params.file import profile_file, profile_names, profile_text, use_profile
from csd_core.system.console import echo

PROFILES = Path("profiles")
"""Of the project's own."""

app = App(name="profile", help="Choose a params.yaml.")


@app.command(name="list")
def list_profiles() -> None:
    """List csd's profiles and those of the project's folder `profiles`, and what each is for."""
    for name in profile_names(PROFILES):
        about = profile_file(PROFILES, name).read_text(encoding="utf-8").splitlines()[0]
        echo(f"{name:18} {about.removeprefix('# ')}")


@app.command
def show(name: str) -> None:
    """Print the params.yaml that a profile stands for.

    Parameters
    ----------
    name
        A profile that `csd profile list` names.
    """
    echo(profile_text(PROFILES, name).rstrip())


@app.command
def use(name: str, *, force: Annotated[bool, Parameter(negative="")] = False) -> None:
    """Write params.yaml from a profile.

    Parameters
    ----------
    name
        A profile that `csd profile list` names.
    force
        Overwrite edits of params.yaml that are saved nowhere else.
    """
    use_profile(Path("params.yaml"), PROFILES, name, force=force)
    echo(f"params.yaml is now profile {name}; `csd run` runs it")
