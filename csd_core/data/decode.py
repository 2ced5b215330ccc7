"""Image files and arrays in the one form a model sees; ingest and serving share it, so they cannot differ.

N images of h x w pixels become (N, size, size, channels) uint8. Grey is ITU-R 601 luma, transparency lies on black, and
resizing is Pillow's bicubic filter, which widens with the reduction and so does not alias.
"""

import io
import math
from pathlib import Path
from typing import BinaryIO, NamedTuple, assert_never

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from csd_core.errors import DataError
from csd_core.records import ImageForm

Pixels = npt.NDArray[np.uint8]

FORMATS = ("AVIF", "BMP", "GIF", "ICO", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "QOI", "TIFF", "WEBP")
"""Raster formats only: Pillow would hand an EPS file to Ghostscript."""

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


class Box(NamedTuple):
    """A part of an image, in pixels of the image as it is stored."""

    left: float
    top: float
    width: float
    height: float


def decode(file: bytes | Path, form: ImageForm, box: Box | None = None) -> Pixels:
    """One image file, its first frame if it is animated, upright as its EXIF says.

    Args:
        file: Its content, or where it lies.
        form: What to make of it.
        box: The part to take, outwards to whole pixels; None takes all of it.

    Returns:
        (size, size, channels) uint8.

    Raises:
        DataError: with a short reason that names no path, if the file is not a whole image of a known format or has
            more pixels than Pillow's `Image.MAX_IMAGE_PIXELS`, or if nothing of it is in the box.
    """
    try:
        with io.BytesIO(file) if isinstance(file, bytes) else file.open("rb") as stream:
            _refuse_empty(stream)
            with Image.open(stream, formats=_known_formats()) as image:
                _refuse_bomb(image)
                return _as_array(_shaped(_eight_bits(_upright(_drafted(image, form, box))), form))
    except DataError:
        raise
    except Exception as error:  # noqa: BLE001 - a damaged file can make a codec raise anything; each is a reason to reject
        raise DataError(_reason(error)) from None


def resize(images: Pixels, form: ImageForm) -> Pixels:
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
        resized[row] = _as_array(_shaped(Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image), form))
    return resized


def _known_formats() -> list[str]:
    """Those of FORMATS that this Pillow has; naming another is an error."""
    if not Image.OPEN.keys() >= set(FORMATS):
        Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _refuse_empty(stream: BinaryIO) -> None:
    if not stream.read(1):
        raise DataError("is empty (0 bytes)")
    stream.seek(0)


def _refuse_bomb(image: Image.Image) -> None:
    """Pillow warns above its limit and refuses only above twice that; here the limit holds."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise DataError(f"has {image.width} x {image.height} pixels; the limit is {limit}")


def _drafted(image: Image.Image, form: ImageForm, box: Box | None) -> Image.Image:
    """The image or its part, shrunk by its own decoder where it can; of a part, no less than of a whole."""
    asked = DRAFT * form.size
    if box is None:
        image.draft(None, (asked, asked))
        return image
    width, height = image.size
    left, right = max(0.0, box.left), min(float(width), box.left + box.width)
    top, bottom = max(0.0, box.top), min(float(height), box.top + box.height)
    if not (left < right and top < bottom):
        raise DataError(f"has {width} x {height} pixels, none of them in its box {tuple(box)}")
    image.draft(None, (math.ceil(asked * width / (right - left)), math.ceil(asked * height / (bottom - top))))
    across, down = image.width / width, image.height / height
    return image.crop(
        (math.floor(left * across), math.floor(top * down), math.ceil(right * across), math.ceil(bottom * down))
    )


def _reason(error: Exception) -> str:
    """A reason that is the same on every machine: no path, no address."""
    match error:
        case UnidentifiedImageError():
            return "is not an image of a known format"
        case Image.DecompressionBombError() | Image.DecompressionBombWarning():
            return f"has more pixels than the limit of {Image.MAX_IMAGE_PIXELS}"
        case OSError(strerror=str(problem)):
            return f"cannot be read: {problem}"
        case OSError() | SyntaxError() | ValueError() | EOFError():
            return f"is damaged: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        case _:
            return f"is damaged: {type(error).__name__}"


def _upright(image: Image.Image) -> Image.Image:
    """Turned and mirrored as EXIF says."""
    orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def _eight_bits(image: Image.Image) -> Image.Image:
    """As L or RGB, whatever the mode was."""
    if image.mode.startswith("I"):  # I;16 and its byte orders; I is how Pillow opens other 16-bit grey files
        values = np.asarray(image).astype(np.int64).clip(0, _SIXTEEN_BITS)
        return Image.fromarray(((values + 128) // 257).astype(np.uint8))
    if image.mode == "F":
        return Image.fromarray(_from_floats(np.asarray(image)))
    if image.has_transparency_data:
        opaque = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", opaque.size, (0, 0, 0, 255)), opaque).convert("RGB")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _from_floats(values: npt.NDArray[np.float32]) -> Pixels:
    """(h, w) floats, 0..1 if none is above 1, else 0..255; the file does not say which."""
    if not np.isfinite(values).all():
        raise DataError("has pixels that are not finite numbers")
    scaled = values * np.float32(255 if values.max() <= 1 else 1)
    pixels: Pixels = np.rint(scaled).clip(0, 255).astype(np.uint8)
    return pixels


def _shaped(image: Image.Image, form: ImageForm) -> Image.Image:
    """An L or RGB image in the form's size and channels."""
    image = image.convert("L" if form.channels == 1 else "RGB")
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


def _as_array(image: Image.Image) -> Pixels:
    """(h, w, channels) uint8, in memory of its own."""
    array = np.array(image, np.uint8)
    return array[..., None] if array.ndim == 2 else array  # noqa: PLR2004 - grey images come as (h, w)
