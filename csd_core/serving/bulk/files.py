"""The files of a folder that may be images, as bulk embedding finds them; none is opened."""

import hashlib
import json
import os
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from csd_core.data.sources.folder import IGNORED
from csd_core.records.stages import Digest
from csd_core.system.errors import DataError


class FoundFile(NamedTuple):
    """A file as the run found it."""

    path: str
    """Relative to the folder, with forward slashes."""
    size: int
    mtime_ns: int


class Rejection(NamedTuple):
    """A file without a vector."""

    path: str
    reason: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Listing:
    """A folder as it was found.

    Attributes:
        entries: By path, ascending.
        rejected: What cannot be an image, whatever it holds.
    """

    entries: tuple[FoundFile, ...]
    rejected: tuple[Rejection, ...]

    @cached_property
    def digest(self) -> Digest:
        """The digest over path, size and time of change of each entry."""
        found = hashlib.sha256()
        for entry in self.entries:
            found.update(json.dumps(entry).encode() + b"\n")
        return found.hexdigest()


def list_files(folder: Path, *, leave_out: Collection[Path] = ()) -> Listing:
    """Return the regular files at any depth and the links to such; hidden files and folders are left out.

    Args:
        folder: Where to look. Links to folders are not followed, so loops cannot trap it.
        leave_out: Files that are no input, such as the output.

    Raises:
        DataError: if there is no such folder.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder; name one with images")
    rejected: list[Rejection] = []
    ignored = {path.parent.resolve() / path.name for path in leave_out}
    entries = sorted(_walk(folder.resolve(), "", leave_out=ignored, rejected=rejected))
    return Listing(entries=tuple(entries), rejected=tuple(sorted(rejected)))


def _walk(folder: Path, prefix: str, *, leave_out: Collection[Path], rejected: list[Rejection]) -> Iterator[FoundFile]:
    try:
        with os.scandir(folder / prefix) as listing:
            children = list(listing)
    except OSError as error:
        rejected.append(Rejection(prefix.rstrip("/") or ".", f"cannot be read: {error.strerror}"))
        return
    for child in children:
        path = prefix + child.name
        if child.name.startswith(".") or child.name in IGNORED or folder / path in leave_out:
            continue
        if any("\ud800" <= character <= "\udfff" for character in child.name):  # how Python holds undecodable bytes
            shown = path.encode("utf-8", "backslashreplace").decode()
            rejected.append(Rejection(shown, "has a name that is not UTF-8; rename it"))
        elif child.is_dir(follow_symlinks=False):
            yield from _walk(folder, f"{path}/", leave_out=leave_out, rejected=rejected)
        else:
            found = _entry(child, path)
            if isinstance(found, FoundFile):
                yield found
            else:
                rejected.append(found)


def _entry(child: os.DirEntry[str], path: str) -> FoundFile | Rejection:
    try:
        facts = child.stat()
    except OSError as error:
        return Rejection(path, f"cannot be read: {error.strerror}")
    if stat.S_ISREG(facts.st_mode):
        return FoundFile(path, facts.st_size, facts.st_mtime_ns)
    if stat.S_ISDIR(facts.st_mode):
        return Rejection(path, "is a link to a folder, which is not followed; copy the folder here")
    return Rejection(path, "is neither a file nor a folder")
