"""The command line: parameters, profiles, tasks, and the pipeline by one word.

Every CsdError becomes its message and exit code; a traceback is a bug.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter
from rich.table import Table

from csd_core.console import console, say
from csd_core.data.canonical import load_source
from csd_core.data.classes import order_classes
from csd_core.errors import CsdError, DataError, ParamsError
from csd_core.params import Params
from csd_core.params_edits import add_task
from csd_core.params_file import load_params, profile_names, use_profile
from csd_core.processes import environment
from csd_core.records_verdict import Ledger
from csd_core.reporting.summary import print_summary
from csd_core.workspace import Workspace

PROFILES = Path("profiles")

app = App(name="csd", help="Keep a visual-search model learning without breaking its gallery.", version_flags=[])
params_app = App(name="params", help="Check params.yaml.")
profile_app = App(name="profile", help="Choose a params.yaml.")
tasks_app = App(name="tasks", help="List tasks and append new ones.")
for sub in (params_app, profile_app, tasks_app):
    app.command(sub)

# Named, not imported: LanceDB and scikit-learn load when a command needs them.
app.command("csd_core.commands.check:check", name="check")
app.command("csd_core.commands.upgrade:app", name="upgrade")
app.command("csd_core.commands.gate:app", name="gate")
app.command("csd_core.commands.compare:app", name="compare")
for name in ("publish", "rollback", "releases", "verify"):
    app.command(f"csd_core.commands.releases:{name}", name=name)
app.command("csd_core.commands.backfill:backfill", name="backfill")
app.command("csd_core.commands.items:app", name="items")
for name in ("serve", "query", "embed"):
    app.command(f"csd_core.commands.{name}:{name}", name=name)
app.command("csd_core.commands.keys:app", name="keys")
app.command("csd_core.commands.inbox:app", name="inbox")
app.command("csd_core.commands.retrainings:retrainings", name="retrainings")


@app.command
def run() -> None:
    """Run what is stale of the pipeline (`dvc repro`), then print the summary."""
    files = Workspace()
    _check_inputs(files, files.params())
    if subprocess.run(["dvc", "status", "--quiet"], env=environment(), check=False).returncode == 0:
        say("Nothing to do: data, code and parameters are as they were when the artefacts were made.")
    else:
        done = subprocess.run(["dvc", "repro"], env=environment(), check=False)
        if done.returncode:
            raise CsdError(
                "the pipeline stopped; its message stands above. Mend it and run again: finished work is kept"
            )
    print_summary(files.metrics, files.page)


def _check_inputs(files: Workspace, params: Params) -> None:
    for name, source in params.sources.folders.items():
        if not files.path(source.path).is_dir():
            raise DataError(
                f"params.yaml: sources.folders.{name}.path: {source.path}: there is no such folder; put a folder of "
                "images for each class in it, or name another"
            )


@app.command
def summary() -> None:
    """Print the table of the last run."""
    files = Workspace()
    print_summary(files.metrics, files.page)


@params_app.command
def check() -> None:
    """Validate params.yaml; exit with 2 if it is wrong."""
    params = Workspace().params()
    say(f"params.yaml: valid; {len(params.tasks)} tasks: {' -> '.join(params.tasks)}")


@params_app.command
def schema() -> None:
    """Print the JSON Schema of params.yaml, for editors."""
    sys.stdout.write(json.dumps(Params.model_json_schema(), indent=2) + "\n")


@profile_app.command(name="list")
def list_profiles() -> None:
    """Name the profiles and what each is for."""
    for name in profile_names(PROFILES):
        about = (PROFILES / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[0]
        say(f"{name:18} {about.removeprefix('# ')}")


@profile_app.command
def use(name: str, *, force: Annotated[bool, Parameter(negative="")] = False) -> None:
    """Write params.yaml from a profile.

    Parameters
    ----------
    name
        One of `csd profile list`.
    force
        Overwrite edits that are saved nowhere else.
    """
    use_profile(Path("params.yaml"), PROFILES, name, force=force)
    say(f"params.yaml is now profile {name}; `csd run` runs it")


@tasks_app.command(name="list")
def list_tasks() -> None:
    """Show the tasks with their state."""
    files = Workspace()
    params = files.params()
    stale = _stale_tasks()
    table = Table("task", "source", "classes", "decision", "state", box=None)
    for name, task in params.tasks.items():
        classes = "the whole source" if task.classes is None else ", ".join(task.classes)
        table.add_row(name, task.source, classes, params.decisions[name], _state(files, name, stale=name in stale))
    console.print(table)


def _state(files: Workspace, task: str, *, stale: bool) -> str:
    if not files.ledger(task).is_file():
        return "not run"
    entry = Ledger.load(files.ledger(task)).entries[-1]
    how = f"promoted ({entry.strategy})" if entry.outcome == "promoted" else "rejected"
    return f"{how}, stale: `csd run` runs it again" if stale else how


def _stale_tasks() -> set[str]:
    status = subprocess.run(["dvc", "status", "--json"], env=environment(), check=False, capture_output=True, text=True)
    if status.returncode:
        raise CsdError(f"dvc status failed: {status.stderr.strip() or status.stdout.strip()}")
    return {stage.split("@")[1] for stage in json.loads(status.stdout) if "@" in stage}


@tasks_app.command
def add(
    name: str,
    *,
    source: str,
    path: str | None = None,
    classes: str | None = None,
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
        Class names separated by commas, in the order of learning. Without it and without --take: the whole source.
    take
        Take the next so many classes of the (ingested) source that no task has yet.
    order
        Which come next, with --take: natural ("2" before "10") or seeded. The names are written down, so classes
        that arrive later reshuffle nothing.
    seed
        Of the seeded order.
    """
    files = Workspace()
    chosen = [label.strip() for label in classes.split(",")] if classes is not None else None
    if take is not None:
        if chosen is not None:
            raise ParamsError("--take and --classes: name the classes or take the next ones, not both")
        chosen = _next_classes(files, source, take=take, order=order, seed=seed)
    add_task(Path("params.yaml"), name, source=source, classes=chosen, path=path)
    what = "the whole source" if chosen is None else ", ".join(chosen)
    say(f"task {name} learns {what} of {source}; `csd run` runs it")


def _next_classes(
    files: Workspace, source: str, *, take: int, order: Literal["natural", "seeded"], seed: int
) -> list[str]:
    params = load_params()
    if not files.source(source).is_dir():
        raise DataError(f"source {source}: not ingested yet; run `dvc repro` on it first, or name the --classes")
    taken = {label for task in params.tasks.values() for label in task.classes or ()}
    known = load_source(files.source(source)).record.classes
    free = [label for label in order_classes(known, order, seed) if label not in taken]
    if take < 1 or take > len(free):
        raise ParamsError(
            f"--take {take}: source {source} has {len(free)} classes that no task has yet; take 1 to that"
        )
    return free[:take]


def main(arguments: list[str] | None = None) -> None:
    """Run the command line, on this process's arguments unless others are given."""
    try:
        app(sys.argv[1:] if arguments is None else arguments)
    except CsdError as error:
        sys.stdout.flush()
        print(error, file=sys.stderr)  # noqa: T201 - the one line for a person
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
