"""`csd gc`: shows what the cache of DVC must keep, and removes the rest when asked.

`dvc gc --workspace` keeps what the files here need. Releases, reviews and taken batches lie on branches of
retrainings, so it would remove their images and models.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from csd_core.releases.registry import ARTEFACT
from csd_core.releases.safekeeping import NO_REMOTE
from csd_core.releases.store import Releases
from csd_core.retraining.history import retrainings
from csd_core.retraining.origin import fetch_shared
from csd_core.system.console import echo, show
from csd_core.system.errors import CsdError
from csd_core.system.processes import dvc_is_busy, environment
from csd_core.workspace import Workspace
from flows.project import alone
from flows.runs.checkout import git, share_cache
from flows.runs.pipeline import dvc

OPEN = ("unfinished", "in review", "kept")
"""Outcomes of retrainings that may still become a release."""
OWN = re.compile(rf"refs/heads/retrain/|refs/tags/(.*=)?{ARTEFACT}[@#]")
"""Branches and tags that csd makes, of which releases and retrainings say whether they are needed."""


def gc(*, now: bool = False) -> None:
    """Show what DVC's cache must keep for releases, reviews and branches, and how much else is in it.

    Parameters
    ----------
    now
        Remove all else from the cache of this machine; the remote is left alone.
    """
    project = Workspace()
    fetch_shared(project)
    with alone(project), ExitStack() as places:
        wanted = needed(project)
        show(("commit", "needed by"), [(commit[:12], ", ".join(why)) for commit, why in wanted.items()])
        working = [path for path in project.checkout("any").parent.glob("*") if (path / ".git").exists()]
        if working:
            echo(f"unfinished runs: {', '.join(sorted(path.name for path in working))}; what they have is kept too")
        prefix = git(project.root, "rev-parse", "--show-prefix")
        kept = [*(path / prefix for path in working), *places.enter_context(_checkouts(project, tuple(wanted), prefix))]
        echo(_collected(project, kept, now=now))
        if not dvc(project.root, "remote", "list"):
            echo(NO_REMOTE)
    if not now:
        echo("Nothing was removed; `csd gc --now` does that. Never run `dvc gc -w`: it forgets all but the files here.")


def needed(project: Workspace) -> dict[str, list[str]]:
    """Return commit -> what needs its data, beside the files that lie here.

    Raises:
        ArtifactError: if a release or a record is damaged: then nothing can be said.
    """
    found: dict[str, list[str]] = {}
    releases = Releases.of(project, project.params().live.releases)
    retired, active = releases.audit.read().retired, releases.pointer()
    for release in releases.all():
        if release.record.commit and release.name not in retired:
            words = f"release {release.name}{' (active)' if release.name == active else ''}"
            found.setdefault(release.record.commit, []).append(words)
    for each in retrainings(project):
        if each.outcome in OPEN:
            found.setdefault(each.commit, []).append(f"retraining {each.name} ({each.outcome})")
    form = "--format=%(objectname) %(*objectname) %(refname)"
    for line in git(project.root, "for-each-ref", form, "refs/heads", "refs/tags").splitlines():
        *commits, name = line.split()
        if not OWN.match(name):
            found.setdefault(commits[-1], []).append(name.removeprefix("refs/").replace("heads/", "branch ", 1))
    return found


@contextmanager
def _checkouts(project: Workspace, commits: Sequence[str], prefix: str) -> Iterator[list[Path]]:
    """Give each commit's files, without data, to be kept in mind by DVC."""
    (project.root / ".csd").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=project.root / ".csd", prefix="gc-") as folder:
        places = []
        try:
            for commit in commits:
                place = Path(folder) / commit
                git(project.root, "worktree", "add", "--quiet", "--detach", str(place), commit)
                if (place / prefix / ".dvc").is_dir():  # else it is a commit of before DVC
                    share_cache(project, Workspace(place / prefix))
                    places.append(place / prefix)
            yield places
        finally:
            for commit in commits:
                if (Path(folder) / commit).exists():
                    git(project.root, "worktree", "remove", "--force", str(Path(folder) / commit))


def _collected(project: Workspace, kept: Sequence[Path], *, now: bool) -> str:
    """Have DVC remove, or count, what none of these folders needs.

    Raises:
        CsdError: if DVC fails.
    """
    command = [sys.executable, "-m", "dvc", "gc", "--workspace", "--force", *([] if now else ["--dry"])]
    command += ["--projects", *map(str, kept)] if kept else []
    done = subprocess.run(command, cwd=project.root, env=environment(), check=False, capture_output=True, text=True)
    if done.returncode:
        if dvc_is_busy(done.stderr):
            raise CsdError(
                "a run is in progress in this project or in one of its checkouts; try again when it has ended"
            )
        raise CsdError(f"dvc gc: {done.stderr.strip().splitlines()[-1].removeprefix('ERROR: ')}")
    counts = re.findall(r"Removed (\d+) objects from \w+ cache", done.stdout + done.stderr)
    count = sum(map(int, counts))
    return f"{count:,} objects in the cache are needed by nothing" + (" and were removed" if now and count else "")
