"""Those who put batches into an inbox, and a project under git that takes them."""

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from PIL import Image

from csd_core.params.production import InboxParams
from csd_core.releases.contents.release import ReleaseRecord, name_of
from csd_core.retraining.history import Retraining
from csd_core.retraining.inbox import READY, Inbox, InboxBatch
from csd_core.retraining.manifests import TakenBatch
from csd_core.workspace import Workspace

DIGITS = Path(__file__).parents[2] / "csd_core/project/profiles" / "digits.yaml"
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def policy(**changes):
    return InboxParams(**{"uri": "inbox", "min_images": 200, "min_new_classes": 0, "max_wait_days": 7} | changes)


def inbox_at(root, uri="inbox"):
    return Inbox.of(Workspace(root), policy(uri=str(uri)))


def send(folder, name, classes=("cat", "dog"), *, count=2, ready=True):
    """Put a batch of small images into an inbox."""
    for number, label in enumerate(classes):
        (folder / name / label).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            pixels = np.full((4, 4), 20 * number + index, np.uint8)
            Image.fromarray(pixels).save(folder / name / label / f"{index}.png")
    if ready:
        (folder / name / READY).touch()
    return folder / name


def below(folder):
    """Paths of all files."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def problems(root, uri="inbox"):
    """Of each batch."""
    return {inbox_batch.name: "; ".join(inbox_batch.problems) for inbox_batch in inbox_at(root, uri).inbox_batches()}


def upload(system, folder, prefix):
    for path in below(folder):
        system.pipe_file(f"{prefix}/{path}", (folder / path).read_bytes())


def inbox_batch(name="b1", *, images=100, classes=None, digest="d1", since=NOON, problems=()):
    """A batch as a listing would show it."""
    counts = dict(classes or {"cat": images})
    return InboxBatch(name=name, classes=counts, digest=digest, ready_since=since, problems=tuple(problems))


def taken(name="b1", *, digest="d1", images=100):
    return TakenBatch(name=name, digest=digest, images=images)


def retraining(name="r1", **changes):
    values = {
        "name": name,
        "branch": f"retrain/{name}",
        "commit": "c" * 40,
        "base": "b" * 40,
        "release": None,
        "tasks": ("t4",),
        "batches": (taken(),),
        "settings": "e" * 64,
        "outcome": "rejected",
        "why": "the gate rejected it",
        "flow_run": None,
        "publishes": True,
        "on_reject": "carry_on",
        "began": "2026-11-20T12:00:00+00:00",
        "ended": "2026-11-20T13:00:00+00:00",
        "deadline": None,
    }
    return Retraining(**values | changes)


def git(root, *arguments):
    who = ["-c", "user.name=olga", "-c", "user.email=olga@example.org"]
    done = subprocess.run(["git", "-C", root, *who, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def commit(root, message="more"):
    """Commit all files; returns the commit."""
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--allow-empty", "--message", message)
    return git(root, "rev-parse", "HEAD")


def new_project(root):
    """The profile digits, committed."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "params.yaml").write_bytes(DIGITS.read_bytes())
    (root / ".gitignore").write_text("data\nreleases\noperations\n")
    git(root, "init", "--quiet")
    commit(root, "first")
    return Workspace(root)


def activate(files, write_embedder, *, sha, uncommitted=False, classes=("0", "1")):
    """A release of a commit, as far as a retraining looks at it."""
    model = "a" * 64
    folder = files.root / "releases" / name_of(1, model)
    write_embedder(folder / "embedder.onnx", np.eye(16, 4), classes=classes)
    ReleaseRecord(
        number=1,
        kind="publish",
        model=model,
        parent_model=None,
        dimension=4,
        parent=None,
        rolled_back_to=None,
        task="t1",
        after="t1",
        strategy="none",
        commit=sha,
        uncommitted=uncommitted,
        table="gallery",
        tag="release-0001",
        rows=0,
        gallery="0",
        artefact="0",
        query_models=(),
        adapters=(),
        left_out=0,
        audit="0",
        created="2026-11-20T12:00:00+00:00",
        by="olga",
        why="",
    ).save(folder / "release.json")
    (files.root / "releases" / "current").write_text(folder.name + "\n")
    return folder.name
