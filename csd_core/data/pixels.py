"""From an opened image to the pixels that a model sees, in little more memory than the image itself.

Grey is ITU-R 601 luma, transparency lies on black, and resizing is Pillow's bicubic filter, which widens with the
reduction and so does not alias.
"""

import math
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple, Protocol, assert_never

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile

from csd_core.system.errors import DataError

Pixels = npt.NDArray[np.uint8]
Part = tuple[int, int, int, int]
"""Left, top, right and bottom."""

RESAMPLING = Image.Resampling.BICUBIC
DRAFT = 2
"""A JPEG decoder may itself shrink by 2, 4 or 8, to no less than this many times the size asked for: photos decode some
five times as fast and in a fraction of the memory, for pixels that are about one level of 255 off on average."""

_EXIF_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIXTEEN_BITS = 65535
_BAND = 1 << 20
"""Pixels that are converted at a time, so that what a conversion needs beside the image stays small."""


class Form(Protocol):
    """What `records.ImageForm` says of an image."""

    @property
    def size(self) -> int:
        """Width and height."""

    @property
    def channels(self) -> int:
        """1 or 3."""

    @property
    def resize(self) -> Literal["squash", "pad", "crop"]:
        """What becomes of its aspect."""


class Box(NamedTuple):
    """A part of an image, in pixels of the image as it is stored."""

    left: float
    top: float
    width: float
    height: float


def drafted(image: ImageFile.ImageFile, form: Form, box: Box | None) -> Part | None:
    """Let the image's own decoder shrink it where it can; for a part, no less than for a whole.

    Returns:
        The part to cut out of the shrunken image, or None if all of it is wanted.

    Raises:
        DataError: if nothing of it is in the box.
    """
    asked = DRAFT * form.size
    if box is None:
        image.draft(None, (asked, asked))
        return None
    width, height = image.size
    left, right = max(0.0, box.left), min(float(width), box.left + box.width)
    top, bottom = max(0.0, box.top), min(float(height), box.top + box.height)
    if not (left < right and top < bottom):
        raise DataError(f"has {width} x {height} pixels, none of them in its box {tuple(box)}")
    image.draft(None, (math.ceil(asked * width / (right - left)), math.ceil(asked * height / (bottom - top))))
    across, down = image.width / width, image.height / height
    return math.floor(left * across), math.floor(top * down), math.ceil(right * across), math.ceil(bottom * down)


def shaped(image: ImageFile.ImageFile, form: Form, part: Part | None) -> Pixels:
    """Return (form.size, form.size, channels) uint8, upright as EXIF says; the image is closed.

    Args:
        image: As it was opened and drafted.
        form: What to make of it.
        part: What to cut out of it first.
    """
    image.load()
    turn = _turn(image)
    stored: Image.Image = image
    if part is not None:
        stored = image.crop(part)
        image.close()
    plain = _eight_bits(stored)
    if plain is not stored:
        stored.close()
    return as_array(in_form(plain if turn is None else plain.transpose(turn), form))


def in_form(image: Image.Image, form: Form) -> Image.Image:
    """Return an L or RGB image in the form's size and channels."""
    image = _as_mode(image, "L" if form.channels == 1 else "RGB")
    width, height = image.size
    target = (form.size, form.size)
    if image.size == target:
        return image
    match form.resize:
        case "squash":
            return image.resize(target, RESAMPLING)
        case "crop":
            side = min(width, height)
            left, top = (width - side) / 2, (height - side) / 2
            return image.resize(target, RESAMPLING, box=(left, top, left + side, top + side))
        case "pad":
            scale = form.size / max(width, height)
            inner = (max(1, round(width * scale)), max(1, round(height * scale)))
            padded = Image.new(image.mode, target)
            padded.paste(image.resize(inner, RESAMPLING), ((form.size - inner[0]) // 2, (form.size - inner[1]) // 2))
            return padded
        case rule:
            assert_never(rule)


def as_array(image: Image.Image) -> Pixels:
    """Return (h, w, channels) uint8, in memory of its own."""
    array = np.array(image, np.uint8)
    return array[..., None] if array.ndim == 2 else array  # noqa: PLR2004 - grey images come as (h, w)


def _turn(image: ImageFile.ImageFile) -> Image.Transpose | None:
    """Return what turns an image upright; None too if its EXIF cannot be read."""
    if image.format == "TIFF":  # Pillow turns these itself when it loads them
        return None
    try:
        return _UPRIGHT.get(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - damaged metadata can raise anything, and the pixels are whole
        return None


def _eight_bits(image: Image.Image) -> Image.Image:
    """Return the image as L or RGB, whatever the mode was."""
    if image.mode.startswith("I"):  # I;16 and its byte orders; I is how Pillow opens other 16-bit grey files
        return _in_bands(image, "L", _from_integers)
    if image.mode == "F":
        scale = 255 if max(_largest(band) for band in _bands(image)) <= 1 else 1  # the file does not say which
        return _in_bands(image, "L", lambda band: _from_floats(band, scale))
    if image.has_transparency_data:
        return _in_bands(image, "RGB", _on_black)
    mode = "L" if image.mode in ("1", "L") else "RGB"
    return _in_bands(image, mode, lambda band: _as_mode(band, mode)) if image.mode != mode else image


def _bands(image: Image.Image) -> Iterator[Image.Image]:
    """Yield the image from top to bottom."""
    width, height = image.size
    rows = max(1, _BAND // max(1, width))
    for top in range(0, height, rows):
        yield image.crop((0, top, width, min(height, top + rows)))


def _in_bands(image: Image.Image, mode: str, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """Return what `convert`, which looks at each pixel alone, makes of an image."""
    if image.width * image.height <= _BAND:
        return convert(image)
    whole, top = Image.new(mode, image.size), 0
    for band in _bands(image):
        whole.paste(convert(band), (0, top))
        top += band.height
    return whole


def _from_integers(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.int64).clip(0, _SIXTEEN_BITS)
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))


def _largest(image: Image.Image) -> float:
    values = np.asarray(image)
    if not np.isfinite(values).all():
        raise DataError("has pixels that are not finite numbers")
    return float(values.max())


def _from_floats(image: Image.Image, scale: int) -> Image.Image:
    return Image.fromarray(np.rint(np.asarray(image) * np.float32(scale)).clip(0, 255).astype(np.uint8))


def _on_black(image: Image.Image) -> Image.Image:
    opaque = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", opaque.size, (0, 0, 0, 255)), opaque).convert("RGB")


def _as_mode(image: Image.Image, mode: str) -> Image.Image:
    return image if image.mode == mode else image.convert(mode)
