"""`csd params`: whether params.yaml is valid, and what may stand in it."""

import json

from cyclopts import App

from csd_core.data.folders import check_folders, warnings_of
from csd_core.params.model import Params
from csd_core.system.console import echo
from csd_core.workspace import Workspace

app = App(name="params", help="Check params.yaml.")


@app.command
def check() -> None:
    """Validate params.yaml, and look through the folders it names; exit with 2 if it is wrong, with 3 if they are."""
    workspace = Workspace()
    params = workspace.params()
    for line in warnings_of(check_folders(workspace.root, params.sources.folders)):
        echo(line)
    echo(f"params.yaml: valid; {len(params.tasks)} tasks: {' -> '.join(params.tasks)}")


@app.command
def schema() -> None:
    """Print the JSON Schema of params.yaml, for editors."""
    echo(json.dumps(Params.model_json_schema(), indent=2))
