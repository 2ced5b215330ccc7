"""The model registry: a release's model as a version of the artefact `embedder`, by tags in git (GTO).

`dvc artifacts get REPOSITORY embedder --stage production` then fetches the model that is active, from anywhere that
reaches the repository and its DVC remote. The tags are made locally; who wants them elsewhere pushes them.
"""

import hashlib
import json
import re
import time
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from csd_core.releases.candidate import Production
from csd_core.releases.contents.release import PARAMS, Release
from csd_core.retrieval.embedder import digest_of
from csd_core.system import git
from csd_core.system.errors import CsdError, message_of

ARTEFACT, STAGE = "embedder", "production"


class _NotRegisteredError(CsdError):
    """Why a release was not registered; no failure of the release."""


def register(production: Production, release: Release, *, by: str) -> str:
    """Give a release's model a version and the stage `production`; the caller holds the releases' lock.

    A rollback moves the stage back to the version its model has.

    Returns:
        One line: the version, or why there is none.
    """
    try:
        version = _registered(production, release)
    except _NotRegisteredError as error:
        return f"not registered with GTO: {error}"
    production.releases.audit.append("registered", by=by, release=release.name, version=version)
    return f"registered with GTO: {ARTEFACT}@{version} is in stage {STAGE}"


def is_registered(production: Production, release: Release) -> bool:
    """Whether a release's model has a version, of this release or an earlier one."""
    return _known_version(production, release) is not None


def _registered(production: Production, release: Release) -> str:
    """The version that is in stage `production` from now on."""
    try:
        from gto import api  # noqa: PLC0415 - comes with DVC, which serving does not have
    except ImportError:
        raise _NotRegisteredError("gto is not installed (pip install gto)") from None
    root = production.workspace.root
    repository = Path(_git(root, "rev-parse", "--show-toplevel", why_not="this is no git repository"))
    inside = root.resolve().relative_to(repository.resolve()).as_posix()
    name = ARTEFACT if inside == "." else f"{inside}:{ARTEFACT}"
    version = _known_version(production, release)
    try:
        if version is None:
            _refuse_uncommitted(root, release)
            version = _version_at_head(repository, name) or str(
                api.register(str(repository), name, "HEAD", message=f"release {release.name}").version
            )
        if version not in _in_stage(repository, name):
            # a tag's time has whole seconds: of two assignments in one second GTO may take either for the last
            time.sleep(min(max(0.0, _last_tag(repository) + 1 - time.time()), 1.0))
            api.assign(str(repository), name, STAGE, version=version, message=f"release {release.name}", force=True)
        in_stage = _in_stage(repository, name)
    except _NotRegisteredError:
        raise
    except Exception as error:  # noqa: BLE001 - GTO's, git's and pygit2's share no base; the release is active already
        raise _NotRegisteredError(message_of(error)) from None
    if version not in in_stage:
        raise _NotRegisteredError(f"a later tag holds stage {STAGE}; look at `gto show`, and at this clock")
    return version


def _known_version(production: Production, release: Release) -> str | None:
    """The version that an earlier release of the same model was given."""
    versions = [
        entry.version
        for entry in production.releases.audit.read().entries
        if entry.event == "registered" and entry.release and entry.release.endswith(release.record.model[:12])
    ]
    return versions[-1] if versions else None


def _refuse_uncommitted(root: Path, release: Release) -> None:
    """Refuse unless HEAD's dvc.lock records just this model."""
    path = _declared(root)
    _git(root, "cat-file", "-e", "HEAD:./dvc.lock", why_not="dvc.lock is not committed; commit it and publish again")
    lock = YAML(typ="safe").load(_git(root, "show", "HEAD:./dvc.lock", why_not="dvc.lock cannot be read at HEAD"))
    outs = [out for stage in (lock.get("stages") or {}).values() for out in stage.get("outs", ())]
    for out in outs:
        if path == out["path"] or path.startswith(f"{out['path']}/"):
            if not (root / path).is_file() or digest_of(root / path) != release.record.model:
                raise _NotRegisteredError(
                    f"the release has the model after task {release.record.after}, and dvc.yaml declares {path}; only "
                    "that model can be registered: set report.after, run `csd run` and publish again"
                )
            if out.get("md5") == _dvc_hash(root / out["path"]):
                return
            raise _NotRegisteredError(f"dvc.lock at HEAD records another {path} than this one; {_remedy(root)}")
    raise _NotRegisteredError(f"no output in dvc.lock at HEAD holds {path}, which dvc.yaml declares as {ARTEFACT}")


def _remedy(root: Path) -> str:
    """Return how HEAD comes to record the files that lie here."""
    if git.answer(root, "diff", "--quiet", "HEAD", "--", "dvc.lock") is None:
        return "commit dvc.lock and publish again"
    return "dvc.lock is committed, so the file has changed since: run `csd run`, commit dvc.lock and publish again"


def _declared(root: Path) -> str:
    """Path of the artefact, as dvc.yaml says, with its parameters filled in."""
    try:
        document = YAML(typ="safe").load(root / "dvc.yaml")
        declared = str(document["artifacts"][ARTEFACT]["path"])
        params = YAML(typ="safe").load(root / PARAMS)
        return re.sub(r"\$\{([\w.]+)\}", lambda found: str(_value(params, found[1])), declared)
    except (OSError, YAMLError, KeyError, TypeError):
        raise _NotRegisteredError(f"dvc.yaml declares no artefact `{ARTEFACT}`") from None


def _value(params: Any, key: str) -> Any:
    for part in key.split("."):
        params = params[part]
    return params


def _dvc_hash(path: Path) -> str:
    """What dvc.lock records for an output: the MD5 of a file, or of the list of a folder's files."""
    if path.is_file():
        return _md5(path.read_bytes())
    files = sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
    listing = [{"md5": _md5((path / name).read_bytes()), "relpath": name} for name in files]
    return _md5(json.dumps(listing).encode()) + ".dir"


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _version_at_head(repository: Path, name: str) -> str | None:
    """The version that HEAD has already."""
    tags = _git(repository, "tag", "--points-at", "HEAD", why_not="this repository has no commit").splitlines()
    mark = f"{name.replace(':', '=')}@"
    versions = [tag.removeprefix(mark) for tag in tags if tag.startswith(mark) and not tag.endswith("!")]
    return versions[-1] if versions else None


def _in_stage(repository: Path, name: str) -> tuple[str, ...]:
    """The version in stage `production` now; none or one."""
    from gto import api  # noqa: PLC0415 - as above

    shown: Any = api.show(str(repository), f"{name}#{STAGE}")
    return tuple(str(each["version"]) for each in shown)


def _last_tag(repository: Path) -> int:
    """When the newest tag was made, in seconds since 1970; 0 where there is none."""
    newest = ["--sort=-creatordate", "--count=1", "--format=%(creatordate:unix)", "refs/tags"]
    return int(_git(repository, "for-each-ref", *newest, why_not="this is no git repository") or 0)


def _git(folder: Path, *arguments: str, why_not: str) -> str:
    return git.ask(folder, *arguments, why_not=why_not, error=_NotRegisteredError).decode().strip()
