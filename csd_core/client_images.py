"""Images as a client of the service sends them."""

import base64
import io
from pathlib import Path

import numpy as np
import numpy.typing as npt

from csd_core.system.errors import DataError

Image = Path | str | bytes | npt.NDArray[np.uint8]
"""A file, as a path or as its bytes, or (H, W, C) pixels, C 1 or 3."""


def as_base64(image: Image) -> str:
    """Return an image's file in base64; pixels become a PNG.

    Raises:
        DataError: if a file cannot be read, or an array is no image.
    """
    match image:
        case bytes():
            content = image
        case np.ndarray():
            content = _png(image)
        case _:
            try:
                content = Path(image).read_bytes()
            except OSError as error:
                raise DataError(f"{image}: cannot be read ({error.strerror}); name an image") from None
    return base64.b64encode(content).decode()


def _png(image: npt.NDArray[np.uint8]) -> bytes:
    from PIL import Image as Pillow  # noqa: PLC0415 - only for arrays

    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] not in (1, 3):  # noqa: PLR2004 - H, W, C
        raise DataError(f"an image is {image.dtype} {image.shape}; it must be uint8 (H, W, C), C 1 or 3")
    buffer = io.BytesIO()
    Pillow.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(buffer, "PNG")
    return buffer.getvalue()
