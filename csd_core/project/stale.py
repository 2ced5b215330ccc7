"""Which stages are stale and why: what `dvc status --json` says, seen beside the digests of the code that is installed.

DVC runs the stage `code` each time, since no file of a project says which csd is installed, and sees what it wrote only
then. So its digests are compared here: with artifacts/code.json, and for each stage with those that dvc.lock recorded.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from csd_core.code_digest.digest import CodeTree
from csd_core.params.model import Params
from csd_core.stages.code import digest_of_weights, digests_of
from csd_core.system.yaml_file import read_yaml
from csd_core.workspace import Workspace

CODE = "code"
"""The stage that takes digests."""
UNTOUCHED = ["always changed"]
"""What DVC says of it where nothing happened."""

Changes = Mapping[str, Sequence[Any]]
"""Stage -> what changed, as DVC has it."""


def without_code(changes: Changes, workspace: Workspace) -> Changes:
    """Return the changes, without those of the stage `code` if it would write what it wrote before."""
    if changes.get(CODE) != UNTOUCHED or not _as_before(workspace):
        return changes
    return {stage: found for stage, found in changes.items() if stage != CODE}


def _as_before(workspace: Workspace) -> bool:
    """Return whether the stage `code` would write the digests that are there."""
    try:
        there = json.loads(workspace.code.read_bytes())
    except (OSError, ValueError):
        return False
    return bool(there == _digests(workspace))


def _digests(workspace: Workspace) -> dict[str, Any]:
    params = workspace.params()
    return digests_of(CodeTree.of(workspace.root), params, weights=digest_of_weights(workspace, params))


def reasons(changes: Changes, workspace: Workspace) -> dict[str, tuple[str, ...]]:
    """Return why each stage but `code` is stale, in the order of the pipeline.

    A stage that reads what another makes is not among them unless something of its own changed.

    Args:
        changes: As `without_code` leaves them: without `code`, artifacts/code.json holds the installed csd's digests.
        workspace: The project.
    """
    params = workspace.params()
    lock = workspace.root / "dvc.lock"
    recorded: Mapping[str, Any] = ((read_yaml(lock) or {}) if lock.is_file() else {}).get("stages") or {}
    now = _digests(workspace) if CODE in changes else json.loads(workspace.code.read_bytes())
    found: dict[str, list[str]] = {}
    for stage, changed in changes.items():
        if stage != CODE:
            found[stage] = _changes(changed) if stage in recorded else ["has not run"]
    for stage, record in recorded.items():
        digests = (record.get("params") or {}).get("artifacts/code.json") or {}
        if _is_known(stage, params) and any(_at(now, key) != digest for key, digest in digests.items()):
            found[stage] = ["code", *(each for each in found.get(stage, ()) if each != "code")]
    tasks = list(params.tasks)
    steps = ["init", "ingest", "ingest-folder", "split", "train", "export", "adapt", "check", "promote"]

    def place(stage: str) -> tuple[int, int]:
        step, _, name = stage.partition("@")
        if step == "report":
            return len(tasks), 0
        return tasks.index(name) if name in tasks else -1, steps.index(step) if step in steps else len(steps)

    return {stage: tuple(found[stage]) for stage in sorted(found, key=place)}


def _changes(changed: Sequence[Any]) -> list[str]:
    """What DVC says of one stage, in words of params.yaml and of files."""
    params: list[str] = []
    data: list[str] = []
    found: list[str] = []
    for change in changed:
        if not isinstance(change, dict):
            found += ["its definition in dvc.yaml"] if change == "changed checksum" else []
            continue
        for path, state in change.get("changed deps", {}).items():
            if path == "artifacts/code.json":
                found.append("code")
            elif isinstance(state, dict):
                params += state
            else:
                data.append(path if state == "modified" else f"{path} ({state})")
        for path, state in change.get("changed outs", {}).items():
            found.append(f"result {path} ({state})")
    found += [f"parameters: {', '.join(params)}"] if params else []
    found += [f"data: {', '.join(data)}"] if data else []
    return found


def _is_known(stage: str, params: Params) -> bool:
    """Return whether dvc.yaml still has a stage that dvc.lock records, as far as its source or task says."""
    _, at, name = stage.partition("@")
    return not at or name in (*params.tasks, *params.sources.published, *params.sources.folders)


def _at(digests: Mapping[str, Any], key: str) -> Any:
    """Return the digest of `stage` or `stage.name`."""
    stage, _, name = key.partition(".")
    return digests.get(stage, {}).get(name) if name else digests.get(stage)
