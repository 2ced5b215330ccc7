"""`csd profile`: the parameters to start from."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from csd_core.console import say
from csd_core.params_file import profile_names, use_profile

PROFILES = Path("profiles")

app = App(name="profile", help="Choose a params.yaml.")


@app.command(name="list")
def list_profiles() -> None:
    """List the profiles and what each is for."""
    for name in profile_names(PROFILES):
        about = (PROFILES / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[0]
        say(f"{name:18} {about.removeprefix('# ')}")


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
    say(f"params.yaml is now profile {name}; `csd run` runs it")
