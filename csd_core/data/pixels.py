"""From an opened image to the pixels that a model sees, in little more memory than the image itself.

Grey is ITU-R 601 luma, transparency lies on the form's background, and resizing is Pillow's bicubic filter unless the
form says otherwise; it widens with the reduction and so does not alias.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Literal, NamedTuple, Protocol, assert_never

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile

from csd_core.system.errors import DataError

Pixels = npt.NDArray[np.uint8]
Part = tuple[int, int, int, int]
"""Left, top, right and bottom."""

OPENCV = "opencv-bilinear"
RESAMPLING = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "area": Image.Resampling.BOX,
    "nearest": Image.Resampling.NEAREST,
}
_UNFILTERED = ("nearest", OPENCV)
"""Look at single pixels of the original, so no decoder may shrink it before."""
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
CHECKER = ("#404040", "#c0c0c0")
"""The squares behind a transparent image; around a padded one lies the grey between them."""
_SQUARES = 8
"""Of the checker, along the longer side."""
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
    def resize(self) -> Literal["squash", "pad", "crop", "fit"]:
        """What becomes of its aspect; fit keeps it, and never enlarges."""

    @property
    def crop_share(self) -> float:
        """What crop keeps of the shorter side."""

    @property
    def background(self) -> str:
        """What lies behind transparent pixels and around a padded image: a name, or #rrggbb."""

    @property
    def resampling(self) -> str:
        """A key of RESAMPLING, or OPENCV."""

    @property
    def shorter_side(self) -> int | None:
        """What the shorter side becomes before crop cuts out the middle; None crops first."""


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
    if form.shorter_side is None:
        asked = math.ceil(DRAFT * form.size / (form.crop_share if form.resize == "crop" else 1))
    else:
        asked = DRAFT * form.shorter_side
    if form.resampling in _UNFILTERED:
        asked = max(image.size)
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


def shaped(image: ImageFile.ImageFile, forms: Sequence[Form], part: Part | None) -> tuple[Pixels, ...]:
    """Return (form.size, form.size, channels) uint8 for each form, upright as EXIF says; the image is closed.

    Args:
        image: As it was opened and drafted, for each of the forms alike.
        forms: What to make of it, on one background; to fit, the image may be smaller.
        part: What to cut out of it first.
    """
    image.load()
    turn = _turn(image)
    stored: Image.Image = image
    if part is not None:
        stored = image.crop(part)
        image.close()
    plain = _eight_bits(stored, forms[0].background)
    if plain is not stored:
        stored.close()
    upright = plain if turn is None else plain.transpose(turn)
    return tuple(as_array(in_form(upright, form)) for form in forms)


def in_form(image: Image.Image, form: Form) -> Image.Image:
    """Return an L or RGB image in the form's size and channels; one of that size stays as it is."""
    image = _as_mode(image, "L" if form.channels == 1 else "RGB")
    width, height = image.size
    target = (form.size, form.size)
    if form.shorter_side is not None:
        return _middle(image, form, form.shorter_side)
    if image.size == target:
        return image
    match form.resize:
        case "squash":
            return _resized(image, target, form)
        case "crop":
            side = min(width, height) * form.crop_share
            left, top = (width - side) / 2, (height - side) / 2
            return _resized(image, target, form, (left, top, left + side, top + side))
        case "pad":
            scale = form.size / max(width, height)
            inner = (max(1, round(width * scale)), max(1, round(height * scale)))
            padded = Image.new("RGB", target, _colour(form.background)).convert(image.mode)
            padded.paste(_resized(image, inner, form), ((form.size - inner[0]) // 2, (form.size - inner[1]) // 2))
            return padded
        case "fit":
            scale = form.size / max(width, height)
            inner = (max(1, round(width * scale)), max(1, round(height * scale)))
            return image if scale >= 1 else _resized(image, inner, form)
        case rule:
            assert_never(rule)


def _resized(
    image: Image.Image, size: tuple[int, int], form: Form, box: tuple[float, float, float, float] | None = None
) -> Image.Image:
    """Return the part of an image in a box, all of it by default, in another size."""
    if form.resampling != OPENCV:
        return image.resize(size, RESAMPLING[form.resampling], box=box)
    # cv2.INTER_LINEAR weighs the four pixels around the centre of each new one, however many lie between two centres
    return image.transform(size, Image.Transform.EXTENT, box or (0, 0, *image.size), Image.Resampling.BILINEAR)


def _middle(image: Image.Image, form: Form, shorter: int) -> Image.Image:
    """Return the middle of the resized image, to the pixel as torchvision's Resize and CenterCrop take it."""
    width, height = image.size
    scaled = tuple(shorter if side == min(image.size) else int(shorter * side / min(image.size)) for side in image.size)
    resized = image if scaled == (width, height) else _resized(image, (scaled[0], scaled[1]), form)
    left, top = (round((side - form.size) / 2) for side in scaled)
    return resized.crop((left, top, left + form.size, top + form.size))


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


def _eight_bits(image: Image.Image, background: str) -> Image.Image:
    """Return the image as L or RGB, whatever the mode was; what is transparent lies on the background."""
    if image.mode.startswith("I"):  # I;16 and its byte orders; I is how Pillow opens other 16-bit grey files
        return _in_bands(image, "L", lambda band, _: _from_integers(band))
    if image.mode == "F":
        scale = 255 if max(_largest(band) for band in _bands(image)) <= 1 else 1  # the file does not say which
        return _in_bands(image, "L", lambda band, _: _from_floats(band, scale))
    if image.has_transparency_data:
        behind = _checkered if background == "checker" else partial(_plain, colour=_colour(background))
        return _in_bands(image, "RGB", lambda band, top: _laid_on(behind(band.size, top, max(image.size)), band))
    mode = "L" if image.mode in ("1", "L") else "RGB"
    return _in_bands(image, mode, lambda band, _: _as_mode(band, mode)) if image.mode != mode else image


def _bands(image: Image.Image) -> Iterator[Image.Image]:
    """Yield the image from top to bottom."""
    width, height = image.size
    rows = max(1, _BAND // max(1, width))
    for top in range(0, height, rows):
        yield image.crop((0, top, width, min(height, top + rows)))


def _in_bands(image: Image.Image, mode: str, convert: Callable[[Image.Image, int], Image.Image]) -> Image.Image:
    """Return what `convert`, which looks at each pixel alone, makes of an image; it is told a band's first row."""
    if image.width * image.height <= _BAND:
        return convert(image, 0)
    whole, top = Image.new(mode, image.size), 0
    for band in _bands(image):
        whole.paste(convert(band, top), (0, top))
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


def _laid_on(behind: Image.Image, image: Image.Image) -> Image.Image:
    return Image.alpha_composite(behind, image.convert("RGBA")).convert("RGB")


def _plain(size: tuple[int, int], _top: int, _longer: int, *, colour: str) -> Image.Image:
    return Image.new("RGBA", size, colour)


def _checkered(size: tuple[int, int], top: int, longer: int) -> Image.Image:
    """Return rows of a checker, from `top` on, behind an image whose longer side is `longer`."""
    side = math.ceil(longer / _SQUARES)
    rows, columns = (np.arange(start, start + length) // side for start, length in ((top, size[1]), (0, size[0])))
    dark, light = (Image.new("RGBA", size, colour) for colour in CHECKER)
    dark.paste(light, mask=Image.fromarray((rows[:, None] + columns) % 2 == 1))
    return dark


def _colour(background: str) -> str:
    """Return a plain colour, as Pillow reads it."""
    return {"grey": "#808080", "checker": "#808080"}.get(background, background)


def _as_mode(image: Image.Image, mode: str) -> Image.Image:
    return image if image.mode == mode else image.convert(mode)
