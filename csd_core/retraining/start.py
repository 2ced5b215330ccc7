"""Where a retraining starts: at the commit of the active release, so that its champion descends from that model."""

import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from csd_core.records.stages import Champion, SeenShards
from csd_core.releases.contents.release import Release
from csd_core.retrieval.embedder import EmbedderMetadata
from csd_core.system import git
from csd_core.system.errors import ArtifactError, ParamsError
from csd_core.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Where a retraining starts.

    Attributes:
        commit: Of git, in full.
        release: The active one; None before the first.
    """

    commit: str
    release: Release | None


def starting_point(workspace: Workspace, revision: str | None) -> Start:
    """Return where a retraining starts.

    Args:
        workspace: The project.
        revision: A commit, branch or tag; None for the commit of the active release, or HEAD before the first.

    Raises:
        ParamsError: if there is no such revision.
        ArtifactError: if there is no repository, or the release does not say from which commit it was made.
    """
    root = workspace.root
    git.ask(
        root,
        "rev-parse",
        "--git-dir",
        why_not=f"{root.absolute()}: is no git repository, and a retraining starts from a commit; run git init and "
        "commit the project",
    )
    release = _active_release(workspace)
    if revision is not None:
        return Start(commit=_commit(root, revision), release=release)
    if release is None:
        why_not = "there is no commit to start from; commit the project"
        head = git.ask(root, "rev-parse", "--verify", "--quiet", "HEAD^{commit}", why_not=why_not)
        return Start(commit=head.decode().strip(), release=None)
    return Start(commit=_commit_of(release, root), release=release)


def known_classes(workspace: Workspace, start: Start) -> frozenset[str]:
    """Return classes that tasks have already, in Unicode's composed form (NFC).

    They are those that the starting commit's params.yaml lists, and, for tasks that take a whole source, those of the
    released model and of the newest artefacts here: the model knows none whose candidate was rejected.

    Raises:
        ArtifactError: if params.yaml of that commit, the model or an artefact is damaged or missing.
    """
    listed = _tasks(workspace, start)
    labels = {label for classes in listed.values() for label in classes}
    labels.update(_in_artefacts(workspace, reversed(listed)))
    if start.release is not None:
        labels.update(_of_model(start.release.embedder))
    return frozenset(unicodedata.normalize("NFC", label) for label in labels)


def tasks_left(workspace: Workspace, start: Start) -> tuple[str, ...]:
    """Return tasks of the starting commit that come after the active release: an earlier run did not publish them.

    Raises:
        ArtifactError: if params.yaml of that commit is damaged or missing.
    """
    tasks = tuple(_tasks(workspace, start))
    if start.release is None or start.release.record.after not in tasks:
        return tasks
    return tasks[tasks.index(start.release.record.after) + 1 :]


def _tasks(workspace: Workspace, start: Start) -> dict[str, tuple[str, ...]]:
    """Task -> the classes that params.yaml lists, at the starting commit."""
    why_not = f"commit {start.commit[:12]} has no params.yaml; choose a revision to start from"
    return _listed(git.ask(workspace.root, "show", f"{start.commit}:./params.yaml", why_not=why_not), start.commit)


def _active_release(workspace: Workspace) -> Release | None:
    address = _address(workspace)
    if "://" not in address and not workspace.releases(address).is_dir():
        return None
    from csd_core.releases.store import Releases  # noqa: PLC0415 - loads LanceDB: a second

    return Releases.of(workspace, address).active()


def _address(workspace: Workspace) -> str:
    """Return `live.releases` of params.yaml; all else in it is checked where it is used."""
    try:
        return str(YAML(typ="safe", pure=True).load(workspace.root / "params.yaml")["live"]["releases"])
    except (YAMLError, OSError, UnicodeDecodeError, KeyError, TypeError):
        return "releases"


def _commit(root: Path, revision: str) -> str:
    why_not = f"revision {revision}: there is no such commit here; name a commit, branch or tag, or git fetch first"
    if revision.startswith("-"):
        raise ParamsError(why_not)
    found = git.ask(
        root, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}", why_not=why_not, error=ParamsError
    )
    return found.decode().strip()


def _commit_of(release: Release, root: Path) -> str:
    commit, choose = release.record.commit, "choose a revision to start from"
    if commit is None:
        raise ArtifactError(f"release {release.name} names no commit, for it was published outside git; {choose}")
    if release.record.uncommitted:
        raise ArtifactError(
            f"release {release.name} was made from files that differed from its commit {commit[:12]}; commit them and "
            f"{choose}"
        )
    why_not = f"release {release.name}: its commit {commit[:12]} is not in this repository; git fetch, or {choose}"
    git.ask(root, "cat-file", "-e", f"{commit}^{{commit}}", why_not=why_not)
    return commit


def _listed(text: bytes, commit: str) -> dict[str, tuple[str, ...]]:
    """Task -> the classes that params.yaml lists; older commits need not have all of today's parameters."""
    try:
        tasks: dict[str, Any] = YAML(typ="safe", pure=True).load(text.decode())["tasks"]
        return {str(name): tuple(map(str, task["classes"] or ())) for name, task in tasks.items()}
    except (YAMLError, UnicodeDecodeError, KeyError, TypeError, AttributeError):
        raise ArtifactError(
            f"params.yaml at commit {commit[:12]}: lists no tasks with their classes; choose a revision to start from"
        ) from None


def _in_artefacts(workspace: Workspace, tasks: Iterable[str]) -> Iterator[str]:
    """Yield classes of the newest task that has run here.

    Args:
        workspace: The project.
        tasks: The newest first.
    """
    for task in tasks:
        seen, champion = workspace.seen(task), workspace.champion_embedder(task) / "champion.json"
        if seen.is_file():
            yield from SeenShards.load(seen).classes
        if champion.is_file():
            yield from Champion.load(champion).classes
        if seen.is_file() or champion.is_file():
            return


def _of_model(file: Path) -> tuple[str, ...]:
    """Return classes of an ONNX file, without a session: only its metadata matters."""
    import onnx  # noqa: PLC0415 - only where there is a release

    try:
        model = onnx.load(file, load_external_data=False)
        return EmbedderMetadata.from_props({each.key: each.value for each in model.metadata_props}).classes
    except Exception as error:  # protobuf's errors share no better base with the others  # noqa: BLE001
        raise ArtifactError(f"{file}: is no model of csd ({error}); `csd verify` says what is wrong with it") from None
