"""`csd status`: what a run would do, and why."""

from csd_core.commands.dvc import BUSY, NOTHING, clear_the_way, stale_stages
from csd_core.commands.pipeline import print_advice
from csd_core.project.setup import differs
from csd_core.project.stale import reasons
from csd_core.system.console import echo, show
from csd_core.system.errors import CsdError
from csd_core.system.programs import version
from csd_core.workspace import Workspace


def status() -> None:
    """List the stages that are stale and why; if none is, say what rejected candidates need."""
    workspace = Workspace()
    clear_the_way(workspace, workspace.params())
    changes = stale_stages(workspace)
    if changes is None:
        raise CsdError(BUSY)
    why = reasons(changes, workspace)
    if why:
        show(("stage", "why"), [(stage, "; ".join(found)) for stage, found in why.items()])
        echo("`csd run` runs them, and stages after them whose inputs change.")
    else:
        echo(NOTHING)
        print_advice(workspace)
    if differs(workspace.root, "dvc.yaml"):
        echo(
            f"dvc.yaml is not as {version()} has it; if you did not change it, move it away and run `csd init`, "
            "which writes the new one"
        )
