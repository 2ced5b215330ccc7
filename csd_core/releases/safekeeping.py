"""What keeps a release's data from being taken for garbage: git's branch `production` leads to its commit."""

from pathlib import Path

from csd_core.releases.contents.release import Release
from csd_core.system import git
from csd_core.system.console import echo
from csd_core.system.errors import ArtifactError

BRANCH = "production"
NO_REMOTE = (
    "WARNING: DVC has no remote, so images and models of this release exist on this machine alone. Configure one "
    "(`dvc remote add --default store ADDRESS`, commit .dvc/config) and run `dvc push`"
)


def follow(root: Path, release: Release) -> None:
    """Move the branch to a release's commit; where git refuses, as where the branch is checked out, say so.

    Args:
        root: The project, or a checkout of it.
        release: The one that is active from now on.
    """
    commit = release.record.commit
    if commit is None or git.answer(root, "rev-parse", "--verify", "--quiet", f"refs/heads/{BRANCH}") == commit:
        return
    why_not = (
        f"branch {BRANCH} could not be moved to commit {commit[:12]} of release {release.name}; "
        f"do it: git branch --force {BRANCH} {commit[:12]}"
    )
    try:
        git.ask(root, "branch", "--force", BRANCH, commit, why_not=why_not)
    except ArtifactError as error:
        echo(str(error))
