"""Canonical sets made in memory, and images as files."""

import hashlib
import io
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from PIL import Image

from csd_core.data.canonical import CanonicalSet
from csd_core.data.classes import order_classes
from csd_core.records.stages import SourceRecord

MakeSet = Callable[..., CanonicalSet]


def _make_set(
    labels: Sequence[str], source_splits: Sequence[str] | None = None, *, name: str = "set", first: int = 0
) -> CanonicalSet:
    """2x2 images that count upwards from `first`, so that equal numbers are equal images."""
    numbers = np.arange(first, first + len(labels), dtype=">u4")
    images = numbers.view(np.uint8).reshape(-1, 2, 2, 1)
    return CanonicalSet(
        record=SourceRecord(
            name=name,
            kind="imagefolder",
            images=len(labels),
            rejected=0,
            duplicates=0,
            classes=order_classes(labels, "natural", seed=0),
        ),
        images=images,
        ids=np.array([hashlib.sha256(image.tobytes()).hexdigest() for image in images], np.str_),
        labels=np.array(labels, np.str_),
        source_splits=np.array(source_splits if source_splits is not None else [""] * len(labels), np.str_),
        paths=np.array([f"{number:05}" for number in range(len(labels))], np.str_),
    )


@pytest.fixture(scope="session")
def make_set() -> MakeSet:
    return _make_set


@pytest.fixture(scope="session")
def encoded() -> Callable[..., bytes]:
    """The bytes of an image file."""

    def encode(image: Image.Image | np.ndarray, file_format: str = "PNG", **options: object) -> bytes:
        buffer = io.BytesIO()
        image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
        image.save(buffer, file_format, **options)
        return buffer.getvalue()

    return encode
