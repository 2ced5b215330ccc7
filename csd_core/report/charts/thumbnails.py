"""Thumbnails of images, all in one PNG: an image that many examples show is stored once.

M thumbnails of E x E pixels and C channels.
"""

import base64
import io
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from csd_core.data.pool import ItemPool

Images = npt.NDArray[np.uint8]

LARGEST = 48
"""Edge of a thumbnail in pixels; smaller images keep theirs."""
BUDGET = 1_200_000
"""Bytes of all thumbnails before compression; more of them become smaller."""
SMALLEST = 16
CHUNK = 512
"""Images shrunk at a time."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Thumbnails:
    """Small images of some items.

    Attributes:
        items: M numbers of items, rising.
        tiles: (M, E, E, C) uint8.
    """

    items: tuple[int, ...]
    tiles: Images

    @property
    def edge(self) -> int:
        """E."""
        return int(self.tiles.shape[1])

    @property
    def columns(self) -> int:
        """Tiles side by side in the sprite."""
        return max(1, math.ceil(math.sqrt(len(self.tiles))))

    @property
    def rows(self) -> int:
        """Rows of tiles in the sprite."""
        return max(1, math.ceil(len(self.tiles) / self.columns))

    def places(self) -> dict[int, tuple[int, int]]:
        """Item -> column and row of its tile."""
        return {item: (number % self.columns, number // self.columns) for number, item in enumerate(self.items)}

    def data_uri(self) -> str:
        """All tiles as one PNG; each has a margin of a pixel of its own edge, so that scaling mixes no neighbours."""
        edge, channels = self.edge, self.tiles.shape[-1]
        padded = np.pad(self.tiles, ((0, self.rows * self.columns - len(self.tiles)), (1, 1), (1, 1), (0, 0)), "edge")
        sheet = padded.reshape(self.rows, self.columns, edge + 2, edge + 2, channels)
        sheet = sheet.swapaxes(1, 2).reshape(self.rows * (edge + 2), self.columns * (edge + 2), channels)
        stream = io.BytesIO()
        Image.fromarray(sheet if channels == 3 else sheet[..., 0]).save(stream, "PNG", optimize=True)  # noqa: PLR2004
        return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def shrunk(pool: ItemPool, positions: npt.NDArray[np.intp]) -> Images:
    """Return (M, E, E, C) thumbnails of some items; E falls with their number, so that a page stays small."""
    size, channels = pool.shards[0].images.shape[1], pool.shards[0].images.shape[3]
    affordable = math.isqrt(BUDGET // (channels * max(1, len(positions))))
    edge = min(size, LARGEST, max(SMALLEST, affordable))
    tiles = np.empty((len(positions), edge, edge, channels), np.uint8)
    for start in range(0, len(positions), CHUNK):
        for number, image in enumerate(pool.images(positions[start : start + CHUNK]), start):
            tiles[number] = image if edge == size else _resized(image, edge)
    return tiles


def _resized(image: Images, edge: int) -> Images:
    channels = image.shape[-1]
    picture = Image.fromarray(image if channels == 3 else image[..., 0])  # noqa: PLR2004 - RGB
    return np.asarray(picture.resize((edge, edge), Image.Resampling.LANCZOS)).reshape(edge, edge, channels)
