"""Your own images: a folder for each class, as they are found on people's disks."""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from csd_core.data.classes import natural_key
from csd_core.data.sources.decoding import ImageFile, decoded_batches
from csd_core.data.sources.flaws import LINKED_FOLDER, flaw_of
from csd_core.data.sources.protocol import Batch, Rejection, SourceSplit
from csd_core.records.stages import ImageForm
from csd_core.system.errors import DataError
from csd_core.system.names import class_flaw, printable

IGNORED = {"Thumbs.db", "ehthumbs.db", "desktop.ini", "__MACOSX"}
"""What file managers leave behind; so are all names that begin with a dot."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageFolder:
    """A tree as it was found.

    Attributes:
        root: Its folder.
        files: By path, ascending.
        rejected: What cannot be an image, without opening it.
        notes: Classes without files, and the like.
    """

    kind: ClassVar[str] = "imagefolder"
    root: Path
    files: tuple[ImageFile, ...]
    rejected: tuple[Rejection, ...]
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.files) + len(self.rejected)

    def batches(self, form: ImageForm, thumbnails: int | None = None) -> Iterator[Batch]:
        """Yield all images in their form, in the order of their paths; a few batches are in memory at a time."""
        nothing = np.empty((0, form.size, form.size, form.channels), np.uint8)
        yield Batch(images=nothing, labels=(), source_splits=(), paths=(), rejected=self.rejected)
        yield from decoded_batches(self.files, form, lambda file: (self.root / file.path, None), thumbnails=thumbnails)


def open_folder(root: Path, layout: Literal["classes", "train-test"]) -> ImageFolder:
    """Look through a tree without opening its files. Links to folders are not followed, so loops cannot trap it.

    Args:
        root: The folder of class folders, or of train and test.
        layout: `classes`: root/<class>/<image>; `train-test`: root/train/<class>/<image>, and test likewise. Images
            may lie deeper; their class is the first folder's name, in Unicode's composed form (NFC).

    Raises:
        DataError: if the folder, or its train folder, is missing.
    """
    if not root.is_dir():
        raise DataError(f"{root}: there is no such folder; put a folder of images for each class there")
    tree = _Tree(root)
    parts: tuple[tuple[str, SourceSplit], ...] = (("", None),)
    if layout == "train-test":
        if not (root / "train").is_dir():
            raise DataError(f"{root}: has no folder train; layout train-test needs it (or set layout: classes)")
        for name in ("train", "test"):
            if (root / name).is_symlink():
                raise DataError(f"{root / name}: {LINKED_FOLDER}")
        tree.walk_top(folders={"train", "test"}, expected="a folder train or test")
        parts = (("test/", "test"), ("train/", "train")) if (root / "test").is_dir() else (("train/", "train"),)
    files = [file for prefix, source_split in parts for file in tree.walk_classes(prefix, source_split)]
    notes = list(tree.notes())
    if layout == "classes" and tree.class_names == {"train", "test"}:
        notes.append("its classes are called train and test; if these are sets, write layout: train-test")
    return ImageFolder(root=root, files=tuple(sorted(files)), rejected=tuple(sorted(tree.rejected)), notes=tuple(notes))


class _Tree:
    """One pass over a folder, collecting what is no image."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.rejected: list[Rejection] = []
        self._files: Counter[str] = Counter()

    @property
    def class_names(self) -> set[str]:
        return set(self._files)

    def notes(self) -> Iterator[str]:
        """Sentences about classes that one would not expect."""
        for label in sorted(self._files, key=natural_key):
            if self._files[label] == 0:
                yield f'class "{label}" has no files; it is left out'

    def walk_top(self, *, folders: set[str], expected: str) -> None:
        """Reject what lies beside the expected folders."""
        for entry in self._entries("", 0):
            if entry.name not in folders or not entry.is_dir():
                self._reject(entry.name, f"is not in its place: expected {expected}")

    def walk_classes(self, prefix: str, source_split: SourceSplit) -> Iterator[ImageFile]:
        """Yield the files of all class folders below `prefix`."""
        for entry in self._entries(prefix, prefix.count("/")):
            label = unicodedata.normalize("NFC", entry.name)
            if not entry.is_dir():
                self._reject(prefix + entry.name, "is in no class folder")
            elif entry.is_symlink():
                self._reject(prefix + entry.name, LINKED_FOLDER)
            elif flaw := class_flaw(label):
                self._reject(prefix + entry.name, f"cannot be a class: {flaw}")
            else:
                self._files[label] += 0
                for file in self._walk(f"{prefix}{entry.name}/"):
                    self._files[label] += 1
                    yield ImageFile(file, label, source_split)

    def _walk(self, top: str) -> Iterator[str]:
        waiting = [top]
        while waiting:
            prefix = waiting.pop()
            for entry in self._entries(prefix, prefix.count("/")):
                if not entry.is_dir():
                    yield prefix + entry.name
                elif entry.is_symlink():
                    self._reject(prefix + entry.name, LINKED_FOLDER)
                else:
                    waiting.append(f"{prefix}{entry.name}/")

    def _entries(self, prefix: str, depth: int) -> Iterator["os.DirEntry[str]"]:
        """What may be an image or a folder of images; the rest is rejected, but for what is never meant as one."""
        try:
            with os.scandir(self.root / prefix) as listed:
                entries = sorted(listed, key=lambda entry: entry.name)
        except OSError as error:
            self._reject(prefix.rstrip("/") or ".", f"cannot be read: {error.strerror}")
            return
        for entry in entries:
            if entry.name.startswith(".") or entry.name in IGNORED:
                continue
            if flaw := flaw_of(entry, depth=depth):
                self._reject(prefix + entry.name, flaw)
            else:
                yield entry

    def _reject(self, path: str, reason: str) -> None:
        self.rejected.append(Rejection(printable(path), reason))
