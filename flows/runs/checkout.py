"""A run's own checkout: a git worktree with the project's DVC cache, so that nobody else's work is disturbed.

The project's files, its index and its branches are not touched until a finished commit gets its branch, in one step.
What a killed run left behind holds no lock, and the next run removes it.
"""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dvc.config import Config, ConfigError
from filelock import FileLock, Timeout

from csd_core.data.folders import check_folders, pass_over
from csd_core.params.model import Params
from csd_core.retraining.origin import Origin
from csd_core.system.errors import ArtifactError, CsdError, ParamsError
from csd_core.system.git import answer, ask
from csd_core.system.yaml_file import read_yaml
from csd_core.workspace import Workspace
from flows.runs.pipeline import dvc

RECORDED = ("params.yaml", "dvc.lock", "metrics.json", "batches")
"""What a commit of a run holds, besides what its parent has."""
FORGOTTEN = 30 * 24 * 3600.0
"""Seconds after which a checkpoint is rubbish."""
NOBODY = ("csd", "csd@localhost")
"""Who commits where git knows no one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkout:
    """A git worktree with the artefacts of its commit.

    Attributes:
        workspace: Where they lie.
        start: The commit it was made at.
    """

    workspace: Workspace
    start: str

    @property
    def root(self) -> Path:
        """Its folder."""
        return self.workspace.root

    def commit(self, message: str) -> str:
        """Record parameters, dvc.lock and metrics; no branch knows of it yet.

        Returns:
            The new commit, or the one it was made at if nothing changed.
        """
        there = [name for name in RECORDED if (self.root / name).exists()]
        git(self.root, "add", "--all", "--", *there)
        if not git(self.root, "diff", "--cached", "--name-only"):
            return git(self.root, "rev-parse", "HEAD")
        name, email = _committer(self.root)
        options = ["-c", f"user.name={name}", "-c", f"user.email={email}", "-c", "commit.gpgsign=false"]
        git(self.root, *options, "commit", "--quiet", "--no-verify", "--message", message)
        return git(self.root, "rev-parse", "HEAD")

    def give_branch(self, branch: str, commit: str) -> None:
        """Let a new branch point to a commit, at once.

        Raises:
            CsdError: if there is such a branch.
        """
        self._point(branch, commit, before=None)

    def move_branch(self, branch: str, commit: str, *, subject: str) -> None:
        """Move a branch from the commit this checkout was made at to a new one that follows it, at once.

        A branch that is gone is made again. One that a killed run has moved to a commit of its own, whose message
        begins with the same subject, is moved.

        Raises:
            CsdError: if somebody else moved the branch; it stays as it is.
        """
        now = git(self.root, "for-each-ref", "--format=%(objectname)", f"refs/heads/{branch}") or None
        if now not in (self.start, None):
            parent, _, said = git(self.root, "log", "-1", "--format=%P %s", now).partition(" ")
            if parent != self.start or not said.startswith(subject):
                raise CsdError(
                    f"branch {branch} is at {now[:12]}, not at {self.start[:12]} where its run left it: somebody moved "
                    f"it. Move it back (git branch --force {branch} {self.start[:12]}) and try again"
                )
        self._point(branch, commit, before=now)

    def _point(self, branch: str, commit: str, *, before: str | None) -> None:
        """Let a branch point to a commit whose artefacts other machines can have, where the project is shared."""
        origin = Origin.of(self.workspace)
        if origin is None:
            git(self.root, "update-ref", f"refs/heads/{branch}", commit, before or "0" * len(commit))
            return
        dvc(self.root, "push", "--quiet")
        origin.push(branch, commit, expected=before)
        git(self.root, "update-ref", f"refs/heads/{branch}", commit)  # another run here may have fetched it already


@contextmanager
def checkout(project: Workspace, commit: str, *, name: str) -> Iterator[Checkout]:
    """Make a checkout, and remove it afterwards.

    Args:
        project: The project.
        commit: What to check out.
        name: Of the checkout; one at a time may bear it.

    Raises:
        ArtifactError: if another run has a checkout of this name.
        CsdError: if git or DVC cannot do it.
    """
    place = project.checkout(name)
    place.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(project)
    lock = FileLock(_lock(place), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ArtifactError(f"{place}: another run works there; wait for it, or cancel it") from None
    try:
        git(project.root, "worktree", "add", "--quiet", "--detach", str(place), commit)
        workspace = Workspace(
            place / git(project.root, "rev-parse", "--show-prefix")
        )  # a project may be a part of a repository
        _share(project, workspace)
        _fetch(project, workspace)
        yield Checkout(workspace=workspace, start=commit)
    finally:
        _remove(project, place)
        lock.release()
        _lock(place).unlink(missing_ok=True)


def remove_leftovers(project: Workspace) -> tuple[str, ...]:
    """Remove the checkouts of runs that were killed, and checkpoints that no run came back for.

    Returns:
        Their names.
    """
    folder = project.checkout("any").parent
    removed = []
    for place in sorted(path for path in folder.glob("*") if path.is_dir() and not path.is_symlink()):
        lock = FileLock(_lock(place), timeout=0)
        try:
            with lock:
                _remove(project, place)
                _lock(place).unlink(missing_ok=True)
                removed.append(place.name)
        except Timeout:
            continue  # its run is alive
    forgotten = time.time() - FORGOTTEN
    for unfinished in project.handed_on.glob("*"):
        if unfinished.stat().st_mtime < forgotten:
            shutil.rmtree(unfinished)
    return tuple(removed)


def remove_branch(root: Path, branch: str, commit: str) -> None:
    """Remove a branch, unless somebody has moved or removed it."""
    origin = Origin.of(Workspace(root))
    if origin:
        origin.remove(branch, commit)
    answer(root, "update-ref", "-d", f"refs/heads/{branch}", commit)


def git(folder: Path, *arguments: str) -> str:
    """Return what git prints, without the last line end.

    Raises:
        CsdError: with its first line, if it fails.
    """
    command = next(each for each in arguments if not each.startswith("-") and "=" not in each)
    return ask(folder, *arguments, why_not=f"git {command} failed", error=CsdError).decode().rstrip("\n")


def _lock(place: Path) -> Path:
    # taken with FileLock: a thread may take a locks.Lock again, and would remove its own checkout as a leftover
    return place.with_name(f".{place.name}.lock")


def _share(project: Workspace, workspace: Workspace) -> None:
    """One cache and one store of checkpoints for all runs."""
    share_cache(project, workspace)
    project.handed_on.mkdir(parents=True, exist_ok=True)
    unfinished = workspace.work("any", "0" * 16).parent
    unfinished.parent.mkdir(exist_ok=True)
    unfinished.symlink_to(project.handed_on.resolve(), target_is_directory=True)


def share_cache(project: Workspace, workspace: Workspace) -> None:
    """Let DVC in a checkout use the project's cache and remotes; its settings that git does not know come along.

    Raises:
        CsdError: if they cannot be read.
    """
    local = project.root / ".dvc" / "config.local"
    if local.is_file():
        shutil.copy(local, workspace.root / ".dvc" / "config.local")
    try:
        _configure(project.root / ".dvc", workspace.root / ".dvc")
    except ConfigError as error:
        raise CsdError(f"dvc config: {str(error).strip().splitlines()[0]}") from None


def _configure(mine: Path, theirs: Path) -> None:
    """Point a checkout's .dvc folder at the cache and the remotes of the project's; an older commit may know none."""
    project = Config(dvc_dir=str(mine))
    committed = project.load_one("repo")
    with Config(dvc_dir=str(theirs)).edit("local") as settings:
        # outputs are links into the cache where that is possible: a stage replaces an output, it never writes into one
        settings["cache"] |= {
            "dir": str(Path(project["cache"].get("dir", mine / "cache")).resolve()),
            "type": "reflink,hardlink,copy",
        }
        if "remote" in committed["core"]:
            settings["core"].setdefault("remote", committed["core"]["remote"])
        for name, remote in project["remote"].items():
            settings["remote"][name] = committed["remote"].get(name, {}) | settings["remote"].get(name, {})
            if Path(remote["url"]).is_absolute():  # DVC keeps it relative to its folder
                settings["remote"][name]["url"] = str(remote["url"])


def _fetch(project: Workspace, workspace: Workspace) -> None:
    """The artefacts of the commit, and folders of images and start weights that only the project has."""
    if (workspace.root / "dvc.lock").is_file():
        try:
            dvc(workspace.root, "checkout", "--quiet")
        except CsdError:
            if dvc(workspace.root, "remote", "list"):
                dvc(workspace.root, "pull", "--quiet", "--allow-missing")
            else:  # what is gone from the cache is computed again, to the same bytes
                dvc(workspace.root, "checkout", "--quiet", "--allow-missing")
    known = _known_stages(workspace.root)
    for name, source in _params(workspace).sources.folders.items():
        mine, theirs = workspace.path(source.path), project.path(source.path)
        if mine.is_absolute() and not Path(os.path.normpath(mine)).is_relative_to(workspace.root) and mine != theirs:
            raise ParamsError(
                f"params.yaml: sources.folders.{name}.path: {source.path}: leads out of the project, so a checkout "
                "elsewhere cannot have it; write an absolute path"
            )
        computed = f"ingest-folder@{name}" in known and workspace.source(name).exists()
        if not computed and not mine.exists() and theirs.is_dir():
            mine.parent.mkdir(parents=True, exist_ok=True)
            mine.symlink_to(theirs.resolve(), target_is_directory=True)
    weights = _params(workspace).training.network.weights_file
    if weights and not workspace.path(weights).exists() and project.path(weights).is_file():
        workspace.path(weights).parent.mkdir(parents=True, exist_ok=True)
        workspace.path(weights).symlink_to(project.path(weights).resolve())
    here = {
        name: each for name, each in _params(workspace).sources.folders.items() if workspace.path(each.path).is_dir()
    }
    pass_over(workspace.root, here, check_folders(workspace.root, here))


def _params(workspace: Workspace) -> Params:
    """Return the parameters of the commit; a mistake in them names it, not a checkout that is gone by then."""
    try:
        return workspace.params()
    except ParamsError as error:
        commit = git(workspace.root, "rev-parse", "--short=12", "HEAD")
        raise ParamsError(
            str(error).replace(str(workspace.root / "params.yaml"), f"params.yaml at commit {commit}")
        ) from None


def _known_stages(root: Path) -> frozenset[str]:
    lock = root / "dvc.lock"
    values = read_yaml(lock) if lock.is_file() else {}
    return frozenset((values or {}).get("stages") or {})


def _committer(root: Path) -> tuple[str, str]:
    """Return name and address that git has for this user, or stand-ins."""
    found = []
    for key, stand_in in zip(("user.name", "user.email"), NOBODY, strict=True):
        found.append(answer(root, "config", key) or stand_in)
    return found[0], found[1]


def _remove(project: Workspace, place: Path) -> None:
    """Remove a worktree in whatever state it is, and no other's traces."""
    forget = ("worktree", "remove", "--force", "--force", str(place))
    answer(project.root, *forget)
    if place.exists():  # half-made: git does not know it as a worktree
        shutil.rmtree(place)
        answer(project.root, *forget)
