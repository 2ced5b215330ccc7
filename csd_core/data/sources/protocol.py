"""What ingest needs of a source."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from csd_core.records.stages import ImageForm

SourceSplit = Literal["train", "test"] | None
"""Which set of the source an image belongs to; None where it makes no difference."""

BATCH_BYTES = 16 << 20
BATCH_IMAGES = 256


class Rejection(NamedTuple):
    """A file that did not become an item."""

    path: str
    """Relative to the source, with forward slashes."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """Some images of a source and what could not be one.

    Attributes:
        images: (n, size, size, channels) uint8.
        labels: n class names.
        source_splits: n sets of the source.
        paths: n names, unique in the source and ascending within and across batches.
        rejected: Files without an image here.
        thumbnails: n, of the originals that are larger than the images; empty where none is.
    """

    images: npt.NDArray[np.uint8]
    labels: tuple[str, ...]
    source_splits: tuple[SourceSplit, ...]
    paths: tuple[str, ...]
    rejected: tuple[Rejection, ...] = ()
    thumbnails: tuple[bytes | None, ...] = ()


class Source(Protocol):
    """Labelled images, in an order that depends on nothing but themselves."""

    @property
    def kind(self) -> str:
        """Of its parameters."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know before the images are read, such as a class without any."""

    def __len__(self) -> int:
        """Files or images it will offer, good or bad."""

    def batches(self, form: ImageForm, thumbnails: int | None = None) -> Iterator[Batch]:
        """Yield all images in their form, a bounded number at a time.

        Args:
            form: Of the images.
            thumbnails: Longer side of the thumbnails in pixels; None makes none.
        """


def batch_length(form: ImageForm) -> int:
    """Images in a batch, so that a batch of large ones stays small in memory."""
    return max(1, min(BATCH_IMAGES, BATCH_BYTES // (form.size * form.size * form.channels)))
