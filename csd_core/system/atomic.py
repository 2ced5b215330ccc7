"""Artefacts appear whole or not at all: write under a temporary name, then rename.

A temporary name is fixed (`.NAME.partial`, beside its target): what a killed run left is overwritten by the next one,
and the rename stays on one file system.
"""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def _partial(target: Path) -> Path:
    return target.with_name(f".{target.name}.partial")


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _short_writes(target: Path) -> Iterator[None]:
    """Raise a write that a full disk cut short as what it is: numpy tells it without the system's number."""
    try:
        yield
    except OSError as error:
        if error.errno is None and str(error).endswith(" written"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target)) from error
        raise


@contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """Yield a path to write; on success it replaces `target`, on error `target` is as it was."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(target)
    try:
        with _short_writes(target):
            yield partial
        _fsync(partial)
        partial.replace(target)
        _fsync(target.parent)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder to fill; on success it replaces `target`, on error `target` is as it was."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(target)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        with _short_writes(target):
            yield partial
        for path in partial.rglob("*"):
            _fsync(path)
        if target.exists():
            previous = target.with_name(f".{target.name}.former")
            shutil.rmtree(previous, ignore_errors=True)  # a run that was killed between the two renames left it
            target.rename(previous)
            partial.rename(target)
            shutil.rmtree(previous)
        else:
            partial.rename(target)
        _fsync(target.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_text(target: Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with atomic_file(target) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def copy_tree(source: Path, target: Path) -> None:
    """Copy a folder's files and folders; the first failure is raised as it is, so that a full disk is known as one.

    Raises:
        OSError: if something cannot be read or written.
    """
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.rglob("*")):
        place = target / path.relative_to(source)
        if path.is_dir():
            place.mkdir(exist_ok=True)
        else:
            shutil.copyfile(path, place)
