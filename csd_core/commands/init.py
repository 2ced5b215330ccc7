"""`csd init`: a project of one's own."""

import shlex
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from csd_core.project.setup import set_up
from csd_core.system.console import echo

DEFAULT = "digits"


def init(
    folder: Path = Path(),
    /,
    *,
    profile: str | None = None,
    images: Annotated[Path | None, Parameter(name="--from")] = None,
) -> None:
    """Set up a project in a folder; nothing that is there is overwritten.

    Parameters
    ----------
    folder
        The project's folder; it is made where there is none. It may lie in a git repository.
    profile
        Parameters to start from, as `csd profile list` names them; by default those of digits.
    images
        Folder of your own images, a folder for each class: it is looked through, and the parameters fit it; with a
        profile, such as photos, that one decides the form of images, the network and how long it trains.
    """
    if images is None:
        done = set_up(folder, profile or DEFAULT)
    else:
        from csd_core.commands.from_folder import params_from  # noqa: PLC0415 - its libraries are the pipeline's

        done = set_up(folder, DEFAULT, params=params_from(folder, images, profile))
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
    go = "" if folder.resolve() == Path.cwd() else f"cd {shlex.quote(str(folder))} && "
    echo(f"{folder.absolute()}: wrote {', '.join(done.written)}\nNext: {go}csd run")
