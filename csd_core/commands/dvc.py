"""What commands ask of DVC, once its way through the folders of images is clear."""

import json
import subprocess

from csd_core.data.folders import check_folders, pass_over, warnings_of
from csd_core.params.model import Params
from csd_core.project.stale import Changes, without_code
from csd_core.releases.safekeeping import NO_REMOTE
from csd_core.system.console import echo
from csd_core.system.errors import CsdError
from csd_core.system.processes import dvc_is_busy, environment
from csd_core.workspace import Workspace

BUSY = "another run is in progress in this project; wait until it has ended, or end it where it was started"


NOTHING = "Nothing to do: data, code and parameters are as they were when the artefacts were made."


def clear_the_way(workspace: Workspace, params: Params) -> None:
    """Let DVC pass over what it cannot hash in folders of images, and say so.

    Raises:
        DataError: if there is a folder that DVC cannot watch.
    """
    flaws = check_folders(workspace.root, params.sources.folders)
    pass_over(workspace.root, params.sources.folders, flaws)
    for line in warnings_of(flaws):
        echo(line)


def stale_stages(workspace: Workspace) -> Changes | None:
    """Return what changed of each stage that would run; None while another run is in progress: then DVC cannot tell.

    Raises:
        CsdError: if DVC fails.
    """
    done = subprocess.run(["dvc", "status", "--json"], env=environment(), check=False, capture_output=True, text=True)
    if done.returncode == 0:
        changes = json.loads(done.stdout.strip().splitlines()[-1])  # warnings may stand above
        return without_code(changes, workspace)
    complaint = done.stderr.strip() or done.stdout.strip()
    if dvc_is_busy(complaint):
        return None
    raise CsdError(f"dvc status failed: {complaint.removeprefix('ERROR: ')}")


def push(workspace: Workspace) -> None:
    """Push the data of the files here to DVC's remote; say what is missing where that cannot be done."""
    if not (workspace.root / ".dvc").is_dir():
        return
    listed = _dvc("remote", "list")
    if listed.returncode == 0 and not listed.stdout.strip():
        echo(NO_REMOTE)
    elif listed.returncode or (listed := _dvc("push", "--quiet")).returncode:
        words = (listed.stderr.strip().splitlines() or ["no reason given"])[-1].removeprefix("ERROR: ")
        echo(f"WARNING: the release is active, but its data was not pushed: {words}; run `dvc push`")


def _dvc(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["dvc", *arguments], env=environment(), check=False, capture_output=True, text=True)


def reproduce(workspace: Workspace) -> None:
    """Run what is stale.

    Raises:
        CsdError: if a stage fails, or another run is in progress.
    """
    if subprocess.run(["dvc", "repro"], env=environment(), check=False).returncode == 0:
        return
    if stale_stages(workspace) is None:
        raise CsdError(BUSY)
    raise CsdError("the pipeline stopped; its message stands above. Fix it and run again: finished work is kept")
