"""A machine's own clone of a project: a step under `pull` in prefect.yaml, which each run takes before it works.

Prefect's own `git_clone` makes a clone without history in a folder that is removed with the run. A retraining starts
at the commit of a release, so it needs the history; and a clone that stays has DVC's cache and the checkpoints.
"""

import hashlib
import os
import re
import shutil
from pathlib import Path

from filelock import FileLock

from csd_core.retraining.origin import KEY, Origin
from csd_core.system.errors import CsdError, ParamsError
from csd_core.system.git import ask
from csd_core.workspace import Workspace
from flows.runs.checkout import git

REMOTE, BRANCH, FOLDER = "origin", "main", "~/.csd/projects"


def own_clone(repository: str, branch: str = "", folder: str = "", project: str = ".") -> dict[str, str]:
    """Return the folder in which a run works: this machine's clone, made if it is not there, at the branch's commit.

    Args:
        repository: Address or path of the git repository that all machines share. Keys come from git's own settings
            (ssh, a credential helper), or are part of an address that a Prefect block holds.
        branch: Whose params.yaml says where inbox and production are; `main` if empty, as Prefect writes a variable
            that is not set. Runs start at the commit of the active release.
        folder: Where this machine keeps its clones; ~/.csd/projects if empty.
        project: Of the repository, that holds params.yaml.

    Raises:
        ParamsError: if no repository is named.
        CsdError: if the repository cannot be reached, or has no such branch.
    """
    if not repository:
        raise ParamsError(
            "prefect.yaml: pull: own_clone: names no repository; write its address there, or set the variable that "
            "stands there on every machine that runs flows"
        )
    branch = branch or BRANCH
    os.environ.setdefault("GIT_TERMINAL_PROMPT", "0")  # nobody is there to ask
    place = Path(folder or FOLDER).expanduser().absolute() / _name(repository)
    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(place.with_suffix(".lock")):
        if not place.is_dir():
            _clone(repository, place)
        with Origin(workspace=Workspace(place / project), remote=REMOTE).alone():
            git(place, "fetch", "--quiet", "--prune", REMOTE, "+refs/heads/*:refs/heads/*")
        why_not = f"{_shown(repository)}: has no branch {branch}; name another under `pull` in prefect.yaml"
        named = ("rev-parse", "--verify", "--quiet", f"refs/heads/{branch}^{{commit}}")
        commit = ask(place, *named, why_not=why_not, error=CsdError).decode().strip()
        if commit != git(place, "rev-parse", "HEAD"):
            git(place, "checkout", "--quiet", "--force", "--detach", commit)
    return {"directory": str(place / project)}


def _clone(repository: str, place: Path) -> None:
    """Clone in a folder of another name, which a kill may leave half made."""
    partial = place.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    command = ("clone", "--quiet", "--origin", REMOTE, repository, str(partial))
    why_not = f"{_shown(repository)}: cannot be cloned; check the address, the network and this machine's keys"
    ask(place.parent, *command, why_not=why_not, error=CsdError)
    git(partial, "checkout", "--quiet", "--detach")  # no branch is ours: each is as the others have it
    git(partial, "config", KEY, REMOTE)
    partial.rename(place)


def _shown(repository: str) -> str:
    """Return an address without what it may say of keys."""
    return re.sub(r"(?<=://)[^/@]*@", "", repository)


def _name(repository: str) -> str:
    """Return a name for a folder that no other repository has."""
    last = re.sub(r"[^A-Za-z0-9-]+", "-", repository.rstrip("/").rpartition("/")[2].removesuffix(".git")).strip("-")
    return f"{last or 'project'}-{hashlib.sha256(repository.encode()).hexdigest()[:8]}"
