"""Files of a batch that are no usable images, with a picture of those that can be opened, for people to look at."""

import base64
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from csd_core.data.decode import decode
from csd_core.data.sources.protocol import Rejection
from csd_core.data.thumbnails import Fit
from csd_core.records.stages import Record
from csd_core.system.errors import DataError

SHOWN = 12
"""Files of a batch that are shown."""
EDGE = 96
"""Pixels of a picture's longer side."""


class UnusableFile(Record):
    """A file that is no usable image."""

    path: str
    """In its batch, below the folder of its class."""
    reason: str
    jpeg: str | None
    """A picture of at most EDGE pixels, in base64; None where the file cannot be opened as an image."""


def pictured(folder: Path, rejected: Sequence[Rejection]) -> Iterator[UnusableFile]:
    """Yield the first rejected files of a folder, each with its picture if it has one."""
    for each in rejected[:SHOWN]:
        yield UnusableFile(path=each.path, reason=each.reason, jpeg=_jpeg(folder / each.path))


def _jpeg(file: Path) -> str | None:
    try:
        picture = Image.fromarray(decode(file, Fit(EDGE)))
    except DataError:
        return None
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80)
    return base64.b64encode(buffer.getvalue()).decode()
