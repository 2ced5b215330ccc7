"""`csd params`: whether params.yaml is valid, and what may stand in it."""

import json

from cyclopts import App

from csd_core.data.folders import check_folders, told
from csd_core.params.model import Params
from csd_core.system.console import say
from csd_core.workspace import Workspace

app = App(name="params", help="Check params.yaml.")


@app.command
def check() -> None:
    """Validate params.yaml, and look through the folders it names; exit with 2 if it is wrong, with 3 if they are."""
    files = Workspace()
    params = files.params()
    for line in told(check_folders(files.root, params.sources.folders)):
        say(line)
    say(f"params.yaml: valid; {len(params.tasks)} tasks: {' -> '.join(params.tasks)}")


@app.command
def schema() -> None:
    """Print the JSON Schema of params.yaml, for editors."""
    say(json.dumps(Params.model_json_schema(), indent=2))
