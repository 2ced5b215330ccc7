"""How a folder of images is laid out, and what to change where csd would not read it as it is meant."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from csd_core.data.sources.folder import IGNORED
from csd_core.system.errors import DataError

Layout = Literal["classes", "train-test"]
VALIDATION = ("val", "valid", "validation", "dev")
SETS = frozenset({"train", "test", *VALIDATION})
_TABLES = (".csv", ".tsv", ".json", ".parquet", ".txt", ".xlsx")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The top of a folder.

    Attributes:
        layout: How csd reads it.
        hints: What about it is probably not as it is meant, and what to do.
    """

    layout: Layout
    hints: tuple[str, ...]


def recognise(root: Path) -> Found:
    """Look at the upper three levels of a folder.

    Raises:
        DataError: if it is no folder that can be listed.
    """
    if not root.is_dir():
        raise DataError(f"{root}: there is no such folder; name a folder that holds a folder of images for each class")
    try:
        folders, files = _listed(root)
    except OSError as error:
        raise DataError(f"{root}: cannot be listed: {error.strerror}; let csd read it") from None
    if "train" in folders and set(folders) <= SETS:
        return Found(layout="train-test", hints=tuple(_of_sets(folders)))
    return Found(layout="classes", hints=tuple(_of_classes(root, folders, files)))


def _listed(folder: Path) -> tuple[list[str], list[str]]:
    """Return the names of the folders and files in a folder, without what file managers leave behind."""
    with os.scandir(folder) as entries:
        shown = sorted(
            (entry.name, entry.is_dir()) for entry in entries if entry.name[0] != "." and entry.name not in IGNORED
        )
    return [name for name, is_dir in shown if is_dir], [name for name, is_dir in shown if not is_dir]


def _of_sets(folders: list[str]) -> Iterator[str]:
    unread = [name for name in folders if name in VALIDATION]
    if unread and "test" in folders:
        yield (
            f"{unread[0]} is not read: csd cuts images that choose and judge from train itself; move its images into "
            "train's class folders, or leave it"
        )
    elif unread:
        yield f"{unread[0]} is not read; rename it to test, and its images are the test set"


def _of_classes(root: Path, folders: list[str], files: list[str]) -> Iterator[str]:
    differently = [name for name in folders if name not in SETS and name.casefold() in SETS]
    if differently and {name.casefold() for name in folders} <= SETS:
        yield f'"{differently[0]}" is taken for a class; if it is a set of images, call it {differently[0].casefold()}'
        return
    tables = [name for name in files if name.endswith(_TABLES)]
    if files and not folders:
        beside = f" as {tables[0]} says" if tables else ""
        yield f"one level too few: its files lie in no class folder; make a folder for each class and move them{beside}"
        return
    inner = {name: _inside(root / name) for name in folders}
    deeper = [name for name, (below, here) in inner.items() if below and not here]
    if len(folders) == 1 and deeper:
        yield f'one level too many: "{folders[0]}" would be the only class; name {root / folders[0]} instead'
    elif folders and len(deeper) == len(folders):
        example = f"{deeper[0]}/{inner[deeper[0]][0][0]}"
        yield (
            f'images lie two folders deep, as in {example}, and their class is the first ("{deeper[0]}"); if it should '
            "be the second, move those folders up by one"
        )


def _inside(folder: Path) -> tuple[list[str], list[str]]:
    try:
        return _listed(folder)
    except OSError:  # the source rejects it with its reason
        return [], []
