"""Files that may be images: which are read, and how one is opened and decoded in this process."""

import io
from collections.abc import Sequence

from PIL import Image, ImageFile, UnidentifiedImageError

from csd_core.data.containers import refused_format, tidied
from csd_core.data.pixels import Box, Form, Pixels, drafted, shaped
from csd_core.system.errors import DataError

FORMATS = ("AVIF", "BMP", "GIF", "ICO", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "QOI", "TIFF", "WEBP")
"""Raster formats only: Pillow would hand an EPS file to Ghostscript."""
UNKNOWN = "is not an image of a known format"
_TILE_WIDTH, _TILE_LENGTH = 322, 323


def refuse_start(start: bytes) -> None:
    """Look at how a file begins.

    Raises:
        DataError: if it is empty or of no format that is read.
    """
    if not start:
        raise DataError("is empty (0 bytes)")
    name = refused_format(start)
    if name is not None:
        raise DataError(f"is {name}, which is not read; convert it to PNG or JPEG")
    _known_formats()
    if not any(accept is None or accept(start[:16]) for _, accept in map(Image.OPEN.__getitem__, _known_formats())):
        raise DataError(UNKNOWN)


def decoded(content: bytes, forms: Sequence[Form], box: Box | None) -> tuple[Pixels, ...]:
    """Return one image file in each form, all on one background, in this process and whatever it costs.

    Raises:
        DataError: as `decode.decode` does.
        MemoryError: if there is too little.
    """
    try:
        with opened(content) as image:
            part = drafted(image, forms[0], box)
            if is_drafted_alike(content, image.size, forms[1:], box):
                return shaped(image, forms, part)
        return tuple(pixels for form in forms for pixels in decoded(content, (form,), box))
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - a damaged file can make a codec raise anything; each is a reason to reject
        raise reason(error) from None


def is_drafted_alike(content: bytes, size: tuple[int, int], forms: Sequence[Form], box: Box | None) -> bool:
    """Return whether a file's decoder shrinks it to this size for each form: then one decoding serves them all.

    Raises:
        Exception: as `opened` does.
    """
    for form in forms:
        with opened(content) as image:
            drafted(image, form, box)
            if image.size != size:
                return False
    return True


def opened(content: bytes) -> ImageFile.ImageFile:
    """Return the image, none of its pixels decoded yet.

    Raises:
        DataError: if it has too many pixels or parts, or is damaged.
        Exception: whatever a codec raises.
    """
    try:
        image = _opened(tidied(content, metadata=True))
    except DataError:
        raise
    except Exception:  # noqa: BLE001 - its EXIF may be what cannot be read
        image = _opened(tidied(content, metadata=False))
    try:
        _refuse_bomb(image)
    except DataError:
        image.close()
        raise
    return image


def reason(error: Exception) -> DataError:  # noqa: PLR0911 - a table
    """Return why a file is rejected, the same on every machine: no path, no address."""
    match error:
        case DataError():
            return error
        case UnidentifiedImageError():
            return DataError(UNKNOWN)
        case MemoryError():
            return DataError("needs more memory than there is; make it smaller")
        case Image.DecompressionBombError() | Image.DecompressionBombWarning():
            return DataError(f"has more pixels than the limit of {Image.MAX_IMAGE_PIXELS}")
        case OSError(strerror=str(problem)):
            return DataError(f"cannot be read: {problem}")
        case OSError() | SyntaxError() | ValueError() | EOFError():
            return DataError(f"is damaged: {str(error).splitlines()[0] if str(error) else type(error).__name__}")
        case _:
            return DataError(f"is damaged: {type(error).__name__}")


def _opened(content: bytes) -> ImageFile.ImageFile:
    return Image.open(io.BytesIO(content), formats=_known_formats())


def _known_formats() -> list[str]:
    """Return those of FORMATS that this Pillow has; naming another is an error."""
    if not Image.OPEN.keys() >= set(FORMATS):
        Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _refuse_bomb(image: ImageFile.ImageFile) -> None:
    """Pillow warns above its limit and refuses only above twice that; here it holds, and of a TIFF's tiles too."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit is None:
        return
    if image.width * image.height > limit:
        raise DataError(f"has {image.width} x {image.height} pixels; the limit is {limit}")
    tags = getattr(image, "tag_v2", {})
    width, height = tags.get(_TILE_WIDTH, 0), tags.get(_TILE_LENGTH, 0)
    if isinstance(width, int) and isinstance(height, int) and width * height > limit:
        raise DataError(f"has tiles of {width} x {height} pixels; the limit is {limit}")
