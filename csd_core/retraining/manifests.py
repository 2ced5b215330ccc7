"""Tasks that were cut from the inbox, and which batches each took.

batches/<task>.json says it, in git beside the pointer to the images, so that a commit knows its own batches.
"""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from csd_core.params.model import Params
from csd_core.records.stages import Digest, Record
from csd_core.system import git
from csd_core.system.errors import ArtifactError


class TakenBatch(Record):
    """A batch as a task took it."""

    name: str
    digest: Digest
    """Of the listing of its files, as `InboxBatch` has it."""
    images: int
    left_out: tuple[str, ...] = ()
    """Classes of it that were set aside."""


class TaskManifest(Record):
    """batches/<task>.json: the batches of a task."""

    task: str
    batches: tuple[TakenBatch, ...]


def taken_at(root: Path, commit: str) -> dict[str, tuple[str, TakenBatch]]:
    """Return what the tasks of a commit took.

    Args:
        root: The project's folder, in its repository.
        commit: Of git; the working tree does not matter.

    Returns:
        Batch -> task that took it, and how it was then.

    Raises:
        ArtifactError: if there is no such commit, or one of its records is damaged.
    """
    taken: dict[str, tuple[str, TakenBatch]] = {}
    for path, content in _records(root, commit):
        where = f"{path} at commit {commit[:12]}"
        try:
            manifest = TaskManifest.model_validate_json(content)
        except ValidationError as error:
            mistake = error.errors()[0]
            at = ".".join(map(str, mistake["loc"]))
            raise ArtifactError(f"{where}: not a Cut ({at}: {mistake['msg']}); restore it from git's history") from None
        if manifest.task != path.stem:
            raise ArtifactError(f"{where}: is of task {manifest.task}; restore it from git's history")
        taken |= {batch.name: (manifest.task, batch) for batch in manifest.batches}
    return taken


def next_task(params: Params) -> str:
    """Return a name for the next task: one more than the highest number, and no source's name either."""
    numbers = [int(found[1]) for name in params.tasks if (found := re.fullmatch(r"t([0-9]+)", name))]
    number = max(numbers, default=len(params.tasks)) + 1
    names = {*params.tasks, *params.sources.published, *params.sources.folders}
    while f"t{number}" in names:
        number += 1
    return f"t{number}"


def _records(root: Path, commit: str) -> Iterator[tuple[PurePosixPath, bytes]]:
    """Paths and contents of batches/*.json."""
    why_not = f"commit {commit[:12]}: cannot be read; choose one that this repository has, or git fetch"
    tree = git.ask(root, "ls-tree", "-z", f"{commit}^{{commit}}", "batches/", why_not=why_not)
    objects: list[tuple[PurePosixPath, str]] = []
    for line in tree.decode("utf-8", "replace").split("\0")[:-1]:
        about, name = line.split("\t", 1)
        _, kind, identity = about.split()
        if kind == "blob" and name.endswith(".json"):
            objects.append((PurePosixPath(name), identity))
    asked = "".join(f"{identity}\n" for _, identity in objects).encode()
    contents = git.ask(root, "cat-file", "--batch", given=asked, why_not=why_not)
    for path, _ in objects:  # each as `<identity> blob <size>`, its bytes, and a line break
        header, _, rest = contents.partition(b"\n")
        size = header.split()[-1]
        if not size.isdigit():  # `<identity> missing`
            raise ArtifactError(f"{path} at {why_not}")
        yield path, rest[: int(size)]
        contents = rest[int(size) + 1 :]
