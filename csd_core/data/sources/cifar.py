"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009): 60,000 photos of 32x32 pixels, in the published binary version.

A file is records of one length: one byte for each kind of label (CIFAR-100: superclass, class), then 3,072 of pixels,
the red plane, the green, the blue, each row by row. The names of the labels are lines of text files beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from csd_core.data.sources.archives import Archive, Files, open_files, require
from csd_core.data.sources.arrays import ArraySource, Part, verify
from csd_core.system.errors import DataError

SIDE, CHANNELS = 32, 3
PIXELS = CHANNELS * SIDE * SIDE
"""Bytes of an image."""

Pixels = npt.NDArray[np.uint8]


class Records(NamedTuple):
    """A file of records."""

    name: str
    rows: int
    sha256: str


class Labels(NamedTuple):
    """One of the labels in front of each image."""

    names: str
    """The text file with their names, a line each."""
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CifarSet:
    """What was published.

    Attributes:
        archive: All of it.
        train: Its training set, one file after the other.
        test: Its test set.
        labels: In the order of their bytes; the last is the class.
    """

    archive: Archive
    train: tuple[Records, ...]
    test: tuple[Records, ...]
    labels: tuple[Labels, ...]

    @property
    def record(self) -> int:
        """Bytes of a record."""
        return len(self.labels) + PIXELS


PAGE = "https://www.cs.toronto.edu/~kriz/cifar.html (the binary version; the one for Python is pickled and not read)"

CIFAR10 = CifarSet(
    archive=Archive(
        kind="cifar10",
        name="cifar-10-binary.tar.gz",
        folder="cifar-10-batches-bin",
        sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        page=PAGE,
    ),
    train=(
        Records("data_batch_1.bin", 10_000, "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"),
        Records("data_batch_2.bin", 10_000, "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed"),
        Records("data_batch_3.bin", 10_000, "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67"),
        Records("data_batch_4.bin", 10_000, "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48"),
        Records("data_batch_5.bin", 10_000, "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add"),
    ),
    test=(Records("test_batch.bin", 10_000, "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b"),),
    labels=(Labels("batches.meta.txt", 10),),
)

CIFAR100 = CifarSet(
    archive=Archive(
        kind="cifar100",
        name="cifar-100-binary.tar.gz",
        folder="cifar-100-binary",
        sha256="58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        page=PAGE,
    ),
    train=(Records("train.bin", 50_000, "f31298fc616915fa142368359df1c4ca2ae984d6915ca468b998a5ec6aeebf29"),),
    test=(Records("test.bin", 10_000, "d8b1e6b7b3bee4020055f0699b111f60b1af1e262aeb93a0b659061746f8224a"),),
    labels=(Labels("coarse_label_names.txt", 20), Labels("fine_label_names.txt", 100)),
)


def open_cifar(published: CifarSet, path: Path, limit_per_class: int | None) -> ArraySource:
    """Return the set from its archive or the folder that it unpacks to; its test images stay test.

    Args:
        published: CIFAR10 or CIFAR100.
        path: The .tar.gz, its folder, or a folder that holds either.
        limit_per_class: Keep only so many images of each class in each set; None keeps all.

    Raises:
        DataError: if a file is missing, damaged or not the published one.
    """
    files = open_files(path, published.archive)
    batches = (*published.train, *published.test)
    require(files, [*(each.name for each in batches), *(each.names for each in published.labels)], published.archive)
    classes = [_names(files, each) for each in published.labels][-1]
    sets: tuple[tuple[Literal["test", "train"], tuple[Records, ...]], ...] = (
        ("test", published.test),
        ("train", published.train),
    )
    parts = []
    for name, batches in sets:
        images, numbers = _read(files, batches, published)
        part = Part(name=name, source_split=name, images=images, labels=classes[numbers])
        parts.append(part.first_per_class(limit_per_class))
    return ArraySource(kind=published.archive.kind, parts=tuple(parts))


def _read(files: Files, batches: Sequence[Records], published: CifarSet) -> tuple[Pixels, npt.NDArray[np.uint8]]:
    """Images (N, 32, 32, 3) and their classes' numbers (N,), one file in memory beside them at a time."""
    total = sum(batch.rows for batch in batches)
    images, numbers = np.empty((total, SIDE, SIDE, CHANNELS), np.uint8), np.empty(total, np.uint8)
    start = 0
    for batch in batches:
        rows = slice(start, start + batch.rows)
        labels, planes = _records(files, batch, published)
        images[rows], numbers[rows] = planes.transpose(0, 2, 3, 1), labels[:, -1]
        start = rows.stop
    return images, numbers


def _records(files: Files, batch: Records, published: CifarSet) -> tuple[Pixels, Pixels]:
    """One file's labels (n, kinds) and planes (n, 3, 32, 32).

    Raises:
        DataError: if it has another size or checksum, or a label that the set does not have.
    """
    what, size, expected = f"{files.where}: {batch.name}", files.size(batch.name), batch.rows * published.record
    if size != expected:
        raise DataError(
            f"{what}: has {size:,} bytes, {batch.rows:,} records of {published.record:,} are {expected:,}; "
            "it is cut short or not the binary version: fetch it again"
        )
    content = files.read(batch.name)
    if not files.verified:
        verify(content, what=what, expected=batch.sha256)
    records = np.frombuffer(content, np.uint8).reshape(batch.rows, published.record)
    labels = records[:, : len(published.labels)]
    for column, kind in enumerate(published.labels):
        largest = int(labels[:, column].max(initial=0))
        if largest >= kind.number:
            raise DataError(f"{what}: has label {largest}, {kind.names} names 0 to {kind.number - 1}; fetch it again")
    return labels, records[:, len(published.labels) :].reshape(-1, CHANNELS, SIDE, SIDE)


def _names(files: Files, labels: Labels) -> npt.NDArray[np.str_]:
    """Return (labels.number,) names, in the order of their bytes.

    Raises:
        DataError: if they are not as many, or not all different.
    """
    text = files.read(labels.names).decode("utf-8", "replace")
    names = [line.strip() for line in text.splitlines() if line.strip()]
    if len(set(names)) != labels.number or len(names) != labels.number:
        raise DataError(
            f"{files.where}: {labels.names}: has {len(names)} names, {len(set(names))} different ones; the set has "
            f"{labels.number}: fetch it again"
        )
    return np.array(names)
