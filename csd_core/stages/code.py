"""Write a digest of the code that each stage runs: a stage whose digest stays as it is need not run again."""

if __name__ == "__main__":
    from csd_core.stages.entry import run_stage

    run_stage("code")

import hashlib
import json
from typing import Any

from csd_core.code_digest.digest import CodeTree
from csd_core.params.choices import METHODS, SOURCES, family_of
from csd_core.params.model import Params
from csd_core.params.sources import FolderSource
from csd_core.system.atomic import write_text
from csd_core.workspace import Workspace

PLAIN = ("init", "split", "adapt", "check", "promote", "report")
"""Stages whose modules no parameter chooses."""


def main() -> None:
    """Write artifacts/code.json."""
    workspace = Workspace()
    params = workspace.params()
    digests = digests_of(CodeTree.of(workspace.root), params, weights=digest_of_weights(workspace, params))
    write_text(workspace.code, json.dumps(digests, indent=2, sort_keys=True) + "\n")


def digest_of_weights(workspace: Workspace, params: Params) -> str | None:
    """Return sha256 of the start weights' file; None where the parameters name none, or it is missing.

    No stage can have the file as a dependency of DVC, which knows none that is there for some parameters only.
    """
    named = params.training.network.weights_file
    if named is None or not workspace.path(named).is_file():
        return None
    with workspace.path(named).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digests_of(code: CodeTree, params: Params, *, weights: str | None = None) -> dict[str, Any]:
    """Return stage -> digest of its code; of `ingest` and `train` source or task -> digest.

    Args:
        code: The modules.
        params: They choose among modules.
        weights: Of the start weights' file, which counts for training. So does the recipe of a task that has its own,
            with all that it extends.
    """

    def digest(stage: str, name: str | None = None) -> str:
        facts = [weights] if weights and stage == "train" else []
        if stage == "train" and params.task(str(name)).recipe.startswith("recipes."):
            facts.append(params.training_of(str(name)).later.model_dump_json())  # DVC does not follow `extends`
        return code.digest(closure_of(code, params, stage, name), *chosen(params, stage, name), *facts)

    sources = (*params.sources.published, *params.sources.folders)
    return {
        **{stage: digest(stage) for stage in (*PLAIN, "export")},
        "ingest": {name: digest("ingest", name) for name in sources},
        "train": {name: digest("train", name) for name in params.tasks},
    }


def closure_of(code: CodeTree, params: Params, stage: str, name: str | None = None) -> frozenset[str]:
    """Return the modules that a stage of a source or a task may load."""
    modules = [entry.partition(":")[0] for entry in chosen(params, stage, name)]
    return code.closure(f"csd_core.stages.{stage}", *modules)


def chosen(params: Params, stage: str, name: str | None = None) -> tuple[str, ...]:
    """Return what the parameters choose for a stage of a source or a task, as `csd_core.params.choices` has it."""
    architecture = family_of(params.training.network.architecture)
    match stage:
        case "ingest":
            source = params.source(str(name))
            return (SOURCES["folder" if isinstance(source, FolderSource) else source.kind],)
        case "train" if params.task(str(name)).recipe != "first":
            return (architecture, METHODS[params.training_of(str(name)).later.method])
        case "train" | "export":
            return (architecture,)
    return ()
