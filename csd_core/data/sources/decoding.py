"""Image files decoded by several threads, in their order and a bounded number at a time."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from csd_core.data.decode import decode, decode_beside
from csd_core.data.pixels import Box
from csd_core.data.sources.protocol import Batch, Rejection, SourceSplit, batch_length
from csd_core.data.thumbnails import Fit, encoded
from csd_core.records.stages import ImageForm
from csd_core.system.errors import DataError

Read = Callable[["ImageFile"], tuple[bytes | Path, Box | None]]
WORKERS = os.cpu_count() or 1
"""Threads that decode: Pillow works without the interpreter's lock."""


class ImageFile(NamedTuple):
    """A file that may be an image."""

    path: str
    """Relative to the source, with forward slashes."""
    label: str
    source_split: SourceSplit


def decoded_batches(
    files: Sequence[ImageFile], form: ImageForm, read: Read, *, thumbnails: int | None
) -> Iterator[Batch]:
    """Yield all images in their form; a few batches are in memory at a time.

    Args:
        files: By path, ascending.
        form: Of the images.
        read: Returns a file's content or where it lies, and the part of it to take; a DataError rejects it.
        thumbnails: Longer side of the thumbnails in pixels; None makes none.
    """
    step = batch_length(form)
    pool = ThreadPoolExecutor(WORKERS)
    ahead: deque[Future[Batch]] = deque()
    try:
        for start in range(0, len(files), step):
            ahead.append(pool.submit(_decoded, files[start : start + step], form, read, thumbnails))
            if len(ahead) > 2 * WORKERS:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _decoded(files: Sequence[ImageFile], form: ImageForm, read: Read, thumbnails: int | None) -> Batch:
    images = np.empty((len(files), form.size, form.size, form.channels), np.uint8)
    good: list[ImageFile] = []
    rejected: list[Rejection] = []
    pictures: list[bytes | None] = []
    for file in files:
        picture = None
        try:
            content, box = read(file)
            if thumbnails is None:
                images[len(good)] = decode(content, form, box)
            else:
                images[len(good)], picture = decode_beside(content, form, Fit.beside(form, thumbnails), box)
        except DataError as error:
            rejected.append(Rejection(file.path, str(error)))
        else:
            good.append(file)
            if thumbnails is not None:
                pictures.append(None if picture is None else encoded(picture, form))
    return Batch(
        images=images[: len(good)],
        labels=tuple(file.label for file in good),
        source_splits=tuple(file.source_split for file in good),
        paths=tuple(file.path for file in good),
        rejected=tuple(rejected),
        thumbnails=tuple(pictures),
    )
