"""`csd tasks`: the tasks of params.yaml, and new ones."""

from pathlib import Path
from typing import Literal
from unicodedata import normalize

from cyclopts import App

from csd_core.commands.dvc import clear_the_way, stale_stages
from csd_core.data.canonical import load_source
from csd_core.data.classes import order_classes
from csd_core.data.folders import check_folders, warnings_of
from csd_core.params.edits import add_task
from csd_core.params.file import load_params
from csd_core.params.model import Params
from csd_core.params.sources import FolderSource
from csd_core.params.training import LATER
from csd_core.records.check import strategy_name
from csd_core.records.verdict import Ledger
from csd_core.system.console import echo, show
from csd_core.system.errors import DataError, ParamsError
from csd_core.system.names import path_flaw
from csd_core.workspace import Workspace

app = App(name="tasks", help="List tasks and append new ones.")


@app.command(name="list")
def list_tasks() -> None:
    """Show the tasks with their state."""
    workspace = Workspace()
    params = workspace.params()
    stale = _stale_tasks(workspace, params)
    rows = []
    for name, task in params.tasks.items():
        classes = "the whole source" if task.classes is None else ", ".join(task.classes)
        rows.append((name, task.source, classes, _decision(params, name), _state(workspace, name, stale=name in stale)))
    show(("task", "source", "classes", "decision", "state"), rows)


def _decision(params: Params, task: str) -> str:
    decision = params.decisions[task]
    return "none (first model)" if decision == "none" else decision


def _state(workspace: Workspace, task: str, *, stale: bool) -> str:
    if not workspace.ledger(task).is_file():
        return "not run"
    entry = Ledger.load(workspace.ledger(task)).entries[-1]
    how = f"promoted ({strategy_name(entry.strategy, entry.share)})" if entry.strategy else "rejected"
    return f"{how}, stale: `csd run` runs it again" if stale else how


def _stale_tasks(workspace: Workspace, params: Params) -> frozenset[str]:
    """Return tasks that `csd run` would run again; where that cannot be told, a line says why."""
    try:
        clear_the_way(workspace, params)
    except DataError as error:
        echo(f"which tasks are stale is not known: {error}")
        return frozenset()
    stale = stale_stages(workspace)
    if stale is None:
        echo("a run is in progress: which tasks are stale is not known until it has ended")
    return frozenset(stage.split("@")[1] for stage in stale or () if "@" in stage)


@app.command
def add(
    name: str,
    *,
    source: str,
    path: str | None = None,
    classes: str | None = None,
    recipe: str = LATER,
    take: int | None = None,
    order: Literal["natural", "seeded"] = "natural",
    seed: int = 1,
) -> None:
    """Append a task, with its default decision, to params.yaml.

    Parameters
    ----------
    name
        The new task's name.
    source
        A key of sources.published or sources.folders; with --path, the name of a new one.
    path
        A new batch: a folder with a folder of images for each class.
    classes
        Class names separated by commas, in the order of learning. Without it and --take, the whole source is taken.
    recipe
        How this task alone is trained: a key of training.recipes in params.yaml.
    take
        How many classes to take of those that no task has yet; the source must have been ingested.
    order
        Which classes --take takes first: natural ("2" before "10") or seeded. The names are written down, so
        classes that arrive later reshuffle nothing.
    seed
        The seed of the seeded order.
    """
    workspace = Workspace()
    chosen = [normalize("NFC", label.strip()) for label in classes.split(",")] if classes is not None else None
    if take is not None:
        if chosen is not None:
            raise ParamsError("--take and --classes: name the classes or take the next ones, not both")
        chosen = _next_classes(workspace, source, take=take, order=order, seed=seed)
    if path is not None and path_flaw(path) is None:  # a flaw of the path itself is that of the file
        new = FolderSource(path=path, layout="classes")
        for line in warnings_of(check_folders(workspace.root, {source: new})):
            echo(line)
    add_task(Path("params.yaml"), name, source=source, classes=chosen, path=path, recipe=recipe)
    what = "the whole source" if chosen is None else ", ".join(chosen)
    echo(f"task {name} learns {what} of {source}; `csd run` runs it")


def _next_classes(
    workspace: Workspace, source: str, *, take: int, order: Literal["natural", "seeded"], seed: int
) -> list[str]:
    params = load_params()
    if not workspace.source(source).is_dir():
        stage = "ingest" if source in params.sources.published else "ingest-folder"
        raise DataError(f"source {source}: not ingested yet; run `dvc repro {stage}@{source}` first, or use --classes")
    taken = {label for task in params.tasks.values() for label in task.classes or ()}
    known = load_source(workspace.source(source)).record.classes
    free = [label for label in order_classes(known, order, seed) if label not in taken]
    if take < 1 or take > len(free):
        raise ParamsError(
            f"--take {take}: source {source} has {len(free)} classes that no task has yet; take 1 to that"
        )
    return free[:take]
