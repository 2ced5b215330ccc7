"""`csd init`: a project of one's own."""

from pathlib import Path

from csd_core.project.setup import set_up
from csd_core.system.console import echo

DEFAULT = "digits"


def init(folder: Path = Path(), /, *, profile: str | None = None) -> None:
    """Set up a project in a folder; nothing that is there is overwritten.

    Parameters
    ----------
    folder
        The project's folder; it is made where there is none. It may lie in a git repository.
    profile
        Parameters to start from, as `csd profile list` names them; by default those of digits.
    """
    done = set_up(folder, profile or DEFAULT)
    if done.kept:
        echo(
            f"{', '.join(done.kept)}: there already and left as they are; for csd's, move them away and run `csd init` "
            "again"
        )
    for name, lines in done.lines.items():
        echo(f"{name}: there already and left as it is; add these lines to it: {' '.join(lines)}")
    if profile and "params.yaml" not in done.written:
        echo(f"params.yaml: there already and left as it is; `csd profile use {profile}` replaces it")
    if not done.written:
        echo(f"{folder.absolute()}: is a project; nothing was missing")
        return
    go = "" if folder.resolve() == Path.cwd() else f"cd {folder} && "
    echo(f"{folder.absolute()}: wrote {', '.join(done.written)}\nNext: {go}csd run")
