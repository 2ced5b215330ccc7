"""`csd status`: what a run would do, and why."""

from csd_core.commands.dvc import BUSY, NOTHING, clear_the_way, stale_stages
from csd_core.project.setup import differs
from csd_core.project.stale import reasons
from csd_core.system.console import say, show
from csd_core.system.errors import CsdError
from csd_core.system.programs import version
from csd_core.workspace import Workspace


def status() -> None:
    """List the stages that are stale and why: data, code or parameters."""
    files = Workspace()
    clear_the_way(files, files.params())
    changes = stale_stages(files)
    if changes is None:
        raise CsdError(BUSY)
    why = reasons(changes, files)
    if why:
        show(("stage", "why"), [(stage, "; ".join(found)) for stage, found in why.items()])
        say("`csd run` runs them, and stages after them whose inputs change.")
    else:
        say(NOTHING)
    if differs(files.root, "dvc.yaml"):
        say(
            f"dvc.yaml is not as {version()} has it; if you did not change it, move it away and run `csd init`, "
            "which writes the new one"
        )
