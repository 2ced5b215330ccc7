"""Image files and arrays in the one form a model sees; ingest and serving share it, so they cannot differ.

N images of h x w pixels become (N, size, size, channels) uint8, as `pixels` says.

A file says what it is, and may lie. PNG and JPEG of ordinary size are decoded here, for their headers bound what they
cost; everything else in a process that is limited (`decoder_processes`): first to little memory and time, several at
once, and what fails so again to more of both, one at a time. So all that are decoded together stay below 1 GB.
"""

import stat
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile

from csd_core.data.containers import JPEG, PNG, jpeg_scans
from csd_core.data.decoder_processes import Limits, Room, decoders
from csd_core.data.image_files import FORMATS, is_drafted_alike, opened, reason, refuse_start
from csd_core.data.pixels import DRAFT, Box, Form, Pixels, as_array, drafted, in_form, shaped
from csd_core.system.errors import DataError

__all__ = [
    "DRAFT",
    "FORMATS",
    "LARGE",
    "SMALL",
    "Box",
    "Form",
    "decode",
    "decode_beside",
    "decode_large",
    "decode_light",
    "decode_small",
    "resize",
]

SMALL = Limits(memory=128 << 20, seconds=0.5)
LARGE = Limits(memory=448 << 20, seconds=3.5)
"""An idle process holds some 30 MB more."""
ROOM = 384 << 20
"""Bytes of all small files that are decoded at a time."""
HERE = 256 << 20
"""Bytes that one file may need in this process."""
LIGHT = 32 << 20
"""Bytes that one file may need in this process to be a light one."""
LARGEST_FILE = 64 << 20
"""Bytes of a file that this process reads."""
_START = 512
_PIXEL = 12  # bytes: the image, its turned or converted copy, and room for less
_PASSES = 200_000_000
"""Pixels times passes over them that a JPEG may ask of this process: some two seconds, or less for less memory."""

_room = Room(ROOM)
_large = threading.Lock()


def decode(file: bytes | Path, form: Form, box: Box | None = None) -> Pixels:
    """One image file, its first frame if it is animated, upright as its EXIF says.

    Args:
        file: Its content, or where it lies.
        form: What to make of it.
        box: The part to take, outwards to whole pixels; None takes all of it.

    Returns:
        (size, size, channels) uint8.

    Raises:
        DataError: with a short reason that names no path, if the file is not a whole image of a known format, has
            more pixels than Pillow's `Image.MAX_IMAGE_PIXELS` or needs more than LARGE, or if nothing is in the box.
    """
    pixels = decode_small(file, form, box)
    return decode_large(file, form, box) if pixels is None else pixels


def decode_beside(file: bytes | Path, form: Form, beside: Form, box: Box | None = None) -> tuple[Pixels, Pixels | None]:
    """Return what `decode` gives for a form and for a second one on the same background; one decoding serves both.

    A JPEG is decoded twice if its decoder shrinks it further for one form than for the other. The second image is None
    where it costs more than is allowed.

    Raises:
        DataError: as `decode` does for the first form.
    """
    with suppress(DataError):  # what both cost may be too much, and what one costs not
        both = _small(file, (form, beside), box)
        if both is not None:
            return both[0], both[1]
    pixels = decode(file, form, box)
    try:
        return pixels, decode(file, beside, box)
    except DataError:
        return pixels, None


def decode_small(file: bytes | Path, form: Form, box: Box | None = None) -> Pixels | None:
    """Return what `decode` gives, or None for a file that `decode_large` must look at.

    Raises:
        DataError: as `decode` does.
    """
    found = _small(file, (form,), box)
    return None if found is None else found[0]


def _small(file: bytes | Path, forms: Sequence[Form], box: Box | None) -> tuple[Pixels, ...] | None:
    """Return the image in each form of one decoding, or None where this needs more room or more decodings."""
    try:
        start, size = (file[:_START], len(file)) if isinstance(file, bytes) else _look(file)
    except OSError as error:
        raise reason(error) from None
    refuse_start(start)
    if not start.startswith((PNG, JPEG)):
        try:
            with _room.taken(SMALL.memory):
                return decoders.decode(file, forms, box, SMALL)
        except DataError:
            return None  # more room may be all that it needs
    if size > LARGEST_FILE:
        return None
    try:
        return _here(file if isinstance(file, bytes) else file.read_bytes(), forms, box, most=HERE)
    except Exception as error:  # noqa: BLE001 - a damaged file can make a codec raise anything; each is a reason to reject
        raise reason(error) from None


def decode_light(file: bytes, form: Form, box: Box | None = None) -> Pixels | None:
    """What `decode` gives for a PNG or JPEG that costs little, or None for a file that `decode_small` must look at.

    Raises:
        DataError: as `decode` does.
    """
    refuse_start(file[:_START])
    if not file.startswith((PNG, JPEG)) or len(file) > LIGHT:
        return None
    try:
        found = _here(file, (form,), box, most=LIGHT)
    except Exception as error:  # noqa: BLE001 - as in _small
        raise reason(error) from None
    return None if found is None else found[0]


def decode_large(file: bytes | Path, form: Form, box: Box | None = None) -> Pixels:
    """Return what `decode` gives for any file; one at a time, the others wait.

    Raises:
        DataError: as `decode` does.
    """
    with _large:
        return decoders.decode(file, (form,), box, LARGE)[0]


def resize(images: Pixels, form: Form) -> Pixels:
    """Images that came as an array; each as `decode` makes it from a lossless file with these pixels.

    Args:
        images: (N, h, w, C) uint8, C 1 or 3.
        form: What to make of them.

    Returns:
        (N, size, size, channels) uint8; `images` itself if it has this shape already.
    """
    shape = (form.size, form.size, form.channels)
    if images.shape[1:] == shape:
        return images
    resized = np.empty((len(images), *shape), np.uint8)
    for row, image in enumerate(images):
        resized[row] = as_array(in_form(Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image), form))
    return resized


def _look(path: Path) -> tuple[bytes, int]:
    """Return how a file begins, and its size; what is no file is not waited for.

    Raises:
        DataError: if it is a pipe or a device.
        OSError: if it cannot be opened.
    """
    about = path.stat()
    if not (stat.S_ISREG(about.st_mode) or stat.S_ISDIR(about.st_mode)):  # opening a folder says what it is
        raise DataError("is a pipe, a socket or a device")
    with path.open("rb") as stream:
        return stream.read(_START), about.st_size


def _here(content: bytes, forms: Sequence[Form], box: Box | None, *, most: int) -> tuple[Pixels, ...] | None:
    """Return a PNG or JPEG in each form of one decoding.

    None where it needs more than so many bytes, or the time that goes with them, or more decodings.
    """
    with opened(content) as image:
        size = image.size
        part = drafted(image, forms[0], box)
        needed = _needed(content, image, size, most=most)
        if needed > most or not is_drafted_alike(content, image.size, forms[1:], box):
            return None
        with _room.taken(needed):
            return shaped(image, forms, part)


def _needed(content: bytes, image: ImageFile.ImageFile, size: tuple[int, int], *, most: int) -> int:
    """Bytes that decoding takes, or more than `most` if it takes too long."""
    needed = _PIXEL * image.width * image.height + 2 * len(content)
    if content.startswith(PNG):
        return needed
    components, passes = jpeg_scans(content)
    if passes == 1:
        return needed
    pixels = size[0] * size[1]
    return needed + 2 * components * pixels if pixels * passes <= _PASSES * most // HERE else most + 1
