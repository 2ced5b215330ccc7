"""Write a digest of the code that each stage runs: a stage whose digest stays as it is need not run again."""

if __name__ == "__main__":
    from csd_core.stages.entry import run_stage

    run_stage("code")

import json
from typing import Any

from csd_core.code_digest.digest import CodeTree
from csd_core.params.choices import ARCHITECTURES, METHODS, SOURCES
from csd_core.params.model import Params
from csd_core.params.sources import FolderSource
from csd_core.system.atomic import write_text
from csd_core.workspace import Workspace

PLAIN = ("init", "split", "adapt", "check", "promote", "report")
"""Stages whose modules no parameter chooses."""


def main() -> None:
    """Write artifacts/code.json."""
    workspace = Workspace()
    digests = digests_of(CodeTree.of(workspace.root), workspace.params())
    write_text(workspace.code, json.dumps(digests, indent=2, sort_keys=True) + "\n")


def digests_of(code: CodeTree, params: Params) -> dict[str, Any]:
    """Return stage -> digest of its code; of `ingest` and `train` source or task -> digest."""

    def digest(stage: str, name: str | None = None) -> str:
        return code.digest(closure_of(code, params, stage, name), *chosen(params, stage, name))

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
    architecture = ARCHITECTURES[params.training.network.architecture]
    match stage:
        case "ingest":
            source = params.source(str(name))
            return (SOURCES["folder" if isinstance(source, FolderSource) else source.kind],)
        case "train" if params.task(str(name)).recipe == "later":
            return (architecture, METHODS[params.training.later.method])
        case "train" | "export":
            return (architecture,)
    return ()
