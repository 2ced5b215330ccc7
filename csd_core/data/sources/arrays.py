"""Sets that are published as arrays, small enough to be held in memory as they come."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt

from csd_core.data.decode import resize
from csd_core.data.sources.protocol import Batch, SourceSplit, batch_length
from csd_core.data.thumbnails import of_arrays
from csd_core.records.stages import ImageForm
from csd_core.system.errors import DataError

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """One of the published sets, such as the test set.

    Attributes:
        name: First part of its items' paths.
        source_split: What it is.
        images: (N, h, w, C) uint8.
        labels: (N,) class names.
    """

    name: str
    source_split: SourceSplit
    images: Pixels
    labels: npt.NDArray[np.str_]

    def first_per_class(self, limit: int | None) -> Self:
        """Return the first `limit` images of each class, in their order; all of them for None."""
        if limit is None:
            return self
        _, numbers, counts = np.unique(self.labels, return_inverse=True, return_counts=True)
        by_class = np.argsort(numbers, kind="stable")
        rank = np.empty(len(numbers), np.intp)
        rank[by_class] = np.arange(len(numbers)) - np.repeat(np.cumsum(counts) - counts, counts)
        rows = np.flatnonzero(rank < limit)
        return type(self)(
            name=self.name, source_split=self.source_split, images=self.images[rows], labels=self.labels[rows]
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class ArraySource:
    """A published set.

    Attributes:
        kind: Of its parameters.
        parts: With names in ascending order, so that paths ascend.
    """

    kind: str
    parts: tuple[Part, ...]
    notes: ClassVar[tuple[str, ...]] = ()

    def __len__(self) -> int:
        return sum(len(part.images) for part in self.parts)

    def batches(self, form: ImageForm, thumbnails: int | None = None) -> Iterator[Batch]:
        """Yield all images in their form; an item's path is its part and its number there."""
        step = batch_length(form)
        for part in self.parts:
            for start in range(0, len(part.images), step):
                originals = part.images[start : start + step]
                images = resize(originals, form)
                yield Batch(
                    images=images,
                    labels=tuple(part.labels[start : start + step].tolist()),
                    source_splits=(part.source_split,) * len(images),
                    paths=tuple(f"{part.name}/{number:07}" for number in range(start, start + len(images))),
                    thumbnails=of_arrays(originals, form, thumbnails),
                )


def verify(content: bytes, *, what: str, expected: str) -> None:
    """Refuse data that is not what was published.

    Raises:
        DataError: if its sha256 is not `expected`.
    """
    refuse_other(hashlib.sha256(content).hexdigest(), what=what, expected=expected)


def refuse_other(actual: str, *, what: str, expected: str) -> None:
    """Refuse data whose sha256 is not that of what was published.

    Raises:
        DataError: if they differ.
    """
    if actual != expected:
        raise DataError(
            f"{what}: sha256 is {actual[:12]}…, the published one {expected[:12]}…; the copy is damaged or another "
            "set: fetch it again, or read your own images as a folder source"
        )
