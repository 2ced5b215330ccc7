"""What headers of image files say: format, mode, size, transparency, frames, orientation. No pixel is decoded."""

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from csd_core.data.image_files import opened, refuse_start
from csd_core.data.sources.decoding import WORKERS

ORIENTATION = 0x0112
UPRIGHT = 1
_SIDEWAYS = 5
"""From this orientation on, width and height change places."""
_CHUNK = 1024

GREY_MODES = frozenset({"1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "F"})
"""Modes of Pillow without colour."""


class Header(NamedTuple):
    """One file's.

    Attributes:
        format: As Pillow names it.
        mode: As Pillow names it.
        width: Pixels, upright.
        height: Pixels, upright.
        transparent: It says which pixels are see-through.
        animated: It has more than one frame; the first is taken.
        turned: Its EXIF says that it is not stored upright.
    """

    format: str
    mode: str
    width: int
    height: int
    transparent: bool
    animated: bool
    turned: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Headers:
    """Those of all files that have a readable one.

    Attributes:
        sizes: (N, 2) width and height in pixels, upright.
        formats: Format -> files.
        modes: Mode -> files.
        transparent: Files that say which pixels are see-through.
        animated: Files.
        turned: Files.
    """

    sizes: npt.NDArray[np.int64]
    formats: Counter[str]
    modes: Counter[str]
    transparent: tuple[Path, ...]
    animated: int
    turned: int

    @property
    def aspects(self) -> npt.NDArray[np.float64]:
        """(N,) width by height."""
        return np.asarray(self.sizes[:, 0] / self.sizes[:, 1])

    def quantiles(self, side: int, shares: Sequence[float]) -> list[int]:
        """Return quantiles of the width (side 0) or height (1) in pixels."""
        return [int(each) for each in np.quantile(self.sizes[:, side], shares, method="nearest")]


def read_headers(files: Sequence[Path]) -> Headers:
    """Read the headers of files; those that have none are left out, for decoding says why."""
    read = list(_read(files))
    found = [header for header in read if header is not None]
    return Headers(
        sizes=np.array([(each.width, each.height) for each in found], np.int64).reshape(-1, 2),
        formats=Counter(each.format for each in found),
        modes=Counter(each.mode for each in found),
        transparent=tuple(file for file, each in zip(files, read, strict=True) if each and each.transparent),
        animated=sum(each.animated for each in found),
        turned=sum(each.turned for each in found),
    )


def _read(files: Sequence[Path]) -> Iterator[Header | None]:
    with ThreadPoolExecutor(WORKERS) as pool:
        for start in range(0, len(files), _CHUNK):
            yield from pool.map(_header, files[start : start + _CHUNK])


def _header(file: Path) -> Header | None:
    try:
        content = file.read_bytes()
        refuse_start(content[:512])
        with opened(content) as image:
            orientation = image.getexif().get(ORIENTATION, UPRIGHT)
            # Pillow turns a TIFF itself when it loads it, and its size is already that
            swapped = orientation >= _SIDEWAYS and image.format != "TIFF"
            width, height = image.size[::-1] if swapped else image.size
            return Header(
                format=image.format or "",
                mode=image.mode,
                width=width,
                height=height,
                transparent=image.has_transparency_data,
                animated=bool(getattr(image, "is_animated", False)),
                turned=orientation != UPRIGHT,
            )
    except Exception:  # noqa: BLE001 - a damaged file can make a codec raise anything; decoding rejects it
        return None
