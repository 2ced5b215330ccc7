"""CUB-200-2011 (Wah, Branson, Welinder, Perona & Belongie, 2011): 11,788 photos of 200 kinds of birds, each with a box.

Text files name the images, their classes, their sets and their boxes, a line for each image's number:

    images.txt              1 001.Black_footed_Albatross/Black_Footed_Albatross_0046_18.jpg
    image_class_labels.txt  1 1
    train_test_split.txt    1 0                      1 is train
    bounding_boxes.txt      1 60.0 27.0 325.0 304.0  left, top, width, height
    classes.txt             1 001.Black_footed_Albatross
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

from csd_core.data.pixels import Box
from csd_core.data.sources.archives import Archive, Files, open_files, require
from csd_core.data.sources.decoding import ImageFile, decoded_batches
from csd_core.data.sources.protocol import Batch, SourceSplit
from csd_core.records.stages import ImageForm
from csd_core.system.errors import DataError

IMAGES, CLASSES, LABELS, SETS, BOXES = (
    "images.txt",
    "classes.txt",
    "image_class_labels.txt",
    "train_test_split.txt",
    "bounding_boxes.txt",
)

_SETS: dict[str, SourceSplit] = {"0": "test", "1": "train"}
_IMAGE = re.compile(r"[^./\\][^/\\]*/[^./\\][^/\\]*")
"""A class folder and a file: no path of images.txt leads out of the folder of images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CubSet:
    """What was published.

    Attributes:
        archive: All of it.
        images: How many.
        classes: How many.
    """

    archive: Archive
    images: int
    classes: int


CUB200 = CubSet(
    archive=Archive(
        kind="cub200",
        name="CUB_200_2011.tgz",
        folder="CUB_200_2011",
        sha256="0c685df5597a8b24909f6a7c9db6d11e008733779a671760afef78feb49bf081",
        page="https://www.vision.caltech.edu/datasets/cub_200_2011/",
    ),
    images=11_788,
    classes=200,
)


class Photo(NamedTuple):
    """An image and what the text files say of it."""

    file: ImageFile
    name: str
    """In the set's folder."""
    box: Box


@dataclass(frozen=True, kw_only=True, eq=False)
class Cub:
    """The set, its photos decoded as they are read.

    Attributes:
        files: Where they are.
        photos: By their path in the source, ascending: their set, class folder and file.
        crop_to_box: Whether only what is in its box is taken of a photo.
        notes: Whether it is known to be the published set.
    """

    kind: ClassVar[str] = CUB200.archive.kind
    files: Files
    photos: tuple[Photo, ...]
    crop_to_box: bool
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.photos)

    def batches(self, form: ImageForm, thumbnails: int | None = None) -> Iterator[Batch]:
        """Yield all photos in their form; those that cannot be decoded are rejected."""
        photos = {photo.file.path: photo for photo in self.photos}

        def read(file: ImageFile) -> tuple[bytes, Box | None]:
            photo = photos[file.path]
            return self.files.read(photo.name), photo.box if self.crop_to_box else None

        return decoded_batches([photo.file for photo in self.photos], form, read, thumbnails=thumbnails)


def open_cub(path: Path, *, crop_to_box: bool, limit_per_class: int | None, published: CubSet = CUB200) -> Cub:
    """Return the set from its archive or the folder that it unpacks to; its test images stay test.

    Args:
        path: The .tgz, its folder, or a folder that holds either.
        crop_to_box: Take only what is in its box of each photo.
        limit_per_class: Keep only the first of each class in each set, by name; None keeps all.
        published: What to expect.

    Raises:
        DataError: if a file is missing or damaged, or the archive is not the published one.
    """
    files = open_files(path, published.archive)
    require(files, (IMAGES, CLASSES, LABELS, SETS, BOXES), published.archive)
    photos = sorted(_photos(files, published), key=lambda photo: photo.file.path)
    require(files, (photo.name for photo in photos), published.archive)
    note = (
        f"the photos in {files.where} are not compared with the published ones; those in {published.archive.name} are"
    )
    return Cub(
        files=files,
        photos=tuple(_first_per_class(photos, limit_per_class)),
        crop_to_box=crop_to_box,
        notes=() if files.verified else (note,),
    )


def _first_per_class(photos: Sequence[Photo], limit: int | None) -> Iterator[Photo]:
    taken: Counter[tuple[SourceSplit, str]] = Counter()
    for photo in photos:
        key = (photo.file.source_split, photo.file.label)
        taken[key] += 1
        if limit is None or taken[key] <= limit:
            yield photo


def _photos(files: Files, published: CubSet) -> Iterator[Photo]:
    """Yield every photo, by its number.

    Raises:
        DataError: if the text files do not agree, or say what the set cannot have.
    """
    classes = _table(files, CLASSES, columns=1, rows=published.classes)
    names = _table(files, IMAGES, columns=1, rows=published.images)
    labels = _table(files, LABELS, columns=1, rows=published.images)
    sets = _table(files, SETS, columns=1, rows=published.images)
    boxes = _table(files, BOXES, columns=4, rows=published.images)
    if not names.keys() == labels.keys() == sets.keys() == boxes.keys():
        raise DataError(f"{files.where}: {IMAGES}, {LABELS}, {SETS} and {BOXES} number other images; fetch them again")
    for number, (name,) in names.items():
        (label,), (chosen,) = labels[number], sets[number]
        if label not in classes:
            raise DataError(f"{files.where}: {LABELS}: image {number}: {CLASSES} has no class {label}; fetch it again")
        if chosen not in _SETS:
            raise DataError(f"{files.where}: {SETS}: image {number}: {chosen} is neither 0 nor 1; fetch it again")
        (class_name,) = classes[label]
        if not _IMAGE.fullmatch(name) or name.split("/")[0] != class_name:
            raise DataError(f"{files.where}: {IMAGES}: {name} is no file in its class's folder {class_name}")
        split = _SETS[chosen]
        file = ImageFile(f"{split}/{name}", class_name, split)
        yield Photo(file, f"images/{name}", _box(files, number, boxes[number]))


def _box(files: Files, number: str, values: Sequence[str]) -> Box:
    try:
        box = Box(*map(float, values))
    except ValueError:
        box = Box(0, 0, math.nan, math.nan)
    if not all(map(math.isfinite, box)):
        raise DataError(f"{files.where}: {BOXES}: image {number}: {' '.join(values)} is no box; fetch it again")
    return box


def _table(files: Files, name: str, *, columns: int, rows: int) -> dict[str, list[str]]:
    """Return a text file's lines by their first word.

    Raises:
        DataError: if there are more or fewer lines or words in a line, or two of a number.
    """
    lines = [line.split() for line in files.read(name).decode("utf-8", "replace").splitlines() if line.strip()]
    for position, words in enumerate(lines, start=1):
        if len(words) != 1 + columns:
            raise DataError(
                f"{files.where}: {name}: line {position} has {len(words)} words, not {1 + columns}; fetch it again"
            )
    table = {words[0]: words[1:] for words in lines}
    if not len(table) == len(lines) == rows:
        raise DataError(
            f"{files.where}: {name}: has {len(lines)} lines, {len(table)} different numbers; the set has {rows}: fetch "
            "it again"
        )
    return table
