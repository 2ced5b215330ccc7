"""The folders of one's own images, looked through before DVC is asked to watch them.

DVC hashes a folder before any stage runs, and stops or hangs on a link to nothing, a pipe or a name that is not UTF-8.
So csd lists such entries in `.dvcignore` before each run: DVC passes over them, ingest rejects them with their reason.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from csd_core.data.sources.flaws import HIDDEN, Flaw, flaws_for_dvc
from csd_core.params.sources import FolderSource
from csd_core.system.atomic import write_text
from csd_core.system.errors import DataError
from csd_core.system.names import UNPRINTABLE

TAKEN = (
    ".git", ".dvc", ".csd", "artifacts", "data/seen", "data/shards", "data/sources", "live", "metrics.json",
    "operations", "releases", "report",
)  # fmt: skip
"""What csd, DVC and git write below a project."""
SHOWN = 3
_BEGIN = "# What DVC cannot hash in folders of images: `csd run` keeps this list, up to the line END."
_END = "# END"
_UNPRINTABLE = "[! -~\u00a0-\ud7ff\ue000-\U0010ffff]"
"""Matches one character that a line cannot hold."""


def check_folders(root: Path, folders: Mapping[str, FolderSource]) -> dict[str, tuple[Flaw, ...]]:
    """Refuse folders that DVC cannot watch.

    Args:
        root: Of the project.
        folders: By the name of their source.

    Returns:
        Source -> entries that DVC has to pass over.

    Raises:
        DataError: with one line for each folder that is missing, is in the wrong place, or cannot be watched.
    """
    flaws: dict[str, tuple[Flaw, ...]] = {}
    problems = []
    for name, folder in folders.items():
        problem = _misplaced(root, folder.path)
        found = () if problem else tuple(sorted(flaws_for_dvc(root / folder.path)))
        problem = problem or _unwatchable(root, name, folder.path, found)
        if problem:
            problems.append(f"params.yaml: sources.folders.{name}.path: {folder.path}: {problem}")
        elif found:
            flaws[name] = found
    if problems:
        raise DataError("\n".join(problems))
    return flaws


def pass_over(root: Path, folders: Mapping[str, FolderSource], flaws: Mapping[str, tuple[Flaw, ...]]) -> None:
    """Make `.dvcignore` list these entries and no others of previous runs; what people wrote there stays.

    Raises:
        DataError: if it is not UTF-8 text.
    """
    file = root / ".dvcignore"
    try:
        before = file.read_text(encoding="utf-8") if file.is_file() else ""
    except UnicodeDecodeError:
        raise DataError(f"{file}: is not UTF-8 text; save it as UTF-8") from None
    patterns = sorted(
        {_pattern(f"{_below(root, folders[name].path)}/{flaw.path}") for name, found in flaws.items() for flaw in found}
    )
    block = "".join(f"{line}\n" for line in (_BEGIN, *patterns, _END)) if patterns else ""
    own = re.sub(rf"{re.escape(_BEGIN)}\n.*?{re.escape(_END)}\n", "", before, flags=re.DOTALL)
    after = own + ("\n" if block and own and not own.endswith("\n") else "") + block
    if after != before:
        write_text(file, after)


def warnings_of(flaws: Mapping[str, tuple[Flaw, ...]]) -> list[str]:
    """Return one line for each source, on what of it cannot be used."""
    lines = []
    for name, found in flaws.items():
        shown = "; ".join(map(str, found[:SHOWN]))
        more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        lines.append(f"{name}: DVC passes over {len(found)} entries that it cannot hash: {shown}{more}")
    return lines


def _misplaced(root: Path, path: str) -> str | None:
    """Return why a path cannot name a folder of images, wherever links lead."""
    place, home = Path(os.path.realpath(root / path)), Path(os.path.realpath(root))
    if home.is_relative_to(place):
        return "holds the whole project; name a folder of images for each class"
    for taken in TAKEN:
        if place.is_relative_to(home / taken):
            return f"lies in {taken}, which csd, DVC or git writes; put the images elsewhere, such as data/raw/photos"
        if (home / taken).is_relative_to(place):
            return f"holds {taken}, which csd, DVC or git writes; put the images elsewhere, such as data/raw/photos"
    if not os.path.exists(root / path):  # noqa: PTH110 - a name that is too long is none that exists
        return "there is no such folder; put a folder of images for each class in it, or name another"
    if not os.path.isdir(root / path):  # noqa: PTH112
        return "is no folder; name a folder that holds a folder of images for each class"
    return None if os.access(root / path, os.R_OK | os.X_OK) else "cannot be listed; let csd read it"


def _unwatchable(root: Path, name: str, path: str, flaws: tuple[Flaw, ...]) -> str | None:
    """Return why DVC cannot watch a folder even if it passes over some entries."""
    for flaw in flaws:
        if flaw.reason == HIDDEN:
            return str(flaw)
    if flaws and _below(root, path) is None:
        return (
            f"{flaws[0]}; or link the folder into the project (ln -s {path} data/raw/{name}) and name the link, for "
            "outside of the project DVC passes over nothing"
        )
    return None


def _below(root: Path, path: str) -> str | None:
    """Return the path relative to the project, links not followed, as DVC sees it; None if it leads out of it."""
    for home in (root.absolute(), Path(os.path.realpath(root))):
        relative = os.path.relpath(home / path, home)
        if relative.split("/")[0] != "..":
            return relative
    return None


def _pattern(path: str) -> str:
    """Return a line of .dvcignore that matches a path below the project."""
    escaped = re.sub(r"([\\*?\[\]])", r"\\\1", path)
    escaped = re.sub(r" $", "[ ]", escaped)
    return "/" + UNPRINTABLE.sub(lambda _: _UNPRINTABLE, escaped)
