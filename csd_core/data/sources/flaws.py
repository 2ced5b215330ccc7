"""What in a folder of images is no plain file that can be read: one rule for sources, for DVC and for the inbox."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from csd_core.system.names import UNPRINTABLE, UNUSABLE_NAME, printable

DEEPEST = 64
"""Folders below each other that are looked through."""

OTHER = "is no plain file; remove it"
NOWHERE = "is a link to nothing, or in a circle; remove it"
LINKED_FOLDER = "is a link to a folder, which is not followed; copy the folder here"
TOO_DEEP = f"lies more than {DEEPEST} folders deep; move it up"
HIDDEN = "makes DVC take the folder that holds it for another project and not watch it; remove it"
_DVC_IGNORE = "is for DVC, which allows it in no folder that it watches; remove it"


_FOR_DVC = {".dvc": HIDDEN, ".dvcignore": _DVC_IGNORE}


class Flaw(NamedTuple):
    """An entry that DVC cannot hash.

    Attributes:
        path: Relative to the folder, with forward slashes, as Python holds it.
        reason: Why, and what to do.
    """

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{printable(self.path)} {self.reason}"


def flaw_of(entry: "os.DirEntry[str]", *, depth: int) -> str | None:
    """Say why an entry can be neither an image nor a folder of images, as far as that shows without opening it.

    Args:
        entry: As a folder lists it.
        depth: Of folders above it, below the folder of images.
    """
    if UNPRINTABLE.search(entry.name):
        return UNUSABLE_NAME
    if depth > DEEPEST:
        return TOO_DEEP
    try:
        kind = entry.stat().st_mode
    except OSError as error:
        return NOWHERE if entry.is_symlink() else f"cannot be read: {error.strerror}"
    if not stat.S_ISDIR(kind) and not stat.S_ISREG(kind):
        return OTHER
    needed = os.R_OK | os.X_OK if stat.S_ISDIR(kind) else os.R_OK
    return None if os.access(entry.path, needed) else "cannot be read: Permission denied"


def flaws_for_dvc(root: Path) -> Iterator[Flaw]:
    """Yield what below a folder DVC stops or hangs on, hidden entries included, without opening a file."""
    waiting = [("", 0)]
    while waiting:
        prefix, depth = waiting.pop()
        try:
            with os.scandir(root / prefix) as listed:
                entries = list(listed)
        except FileNotFoundError:
            continue  # it went meanwhile
        for entry in entries:
            path = prefix + entry.name
            if entry.name in {".git", ".hg"}:
                continue  # DVC leaves them out itself
            reason = _FOR_DVC.get(entry.name) or flaw_of(entry, depth=depth)
            if reason is not None:
                yield Flaw(path, reason)
            elif entry.is_dir(follow_symlinks=False):
                waiting.append((f"{path}/", depth + 1))
