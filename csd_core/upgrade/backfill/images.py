"""Where a backfill's images come from."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from csd_core.data.pool import ItemPool
from csd_core.data.shards import RECORD, load_shard
from csd_core.system.errors import DataError

Strings = npt.NDArray[np.str_]
Images = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fetched:
    """What a source could read.

    Attributes:
        images: (m, H, W, C) uint8 of the ids that were read, in their order.
        read: (n,) which of the n ids asked for these are.
        reasons: Why not, for every other id.
    """

    images: Images
    read: Bools
    reasons: Mapping[str, str]


class ImageSource(Protocol):
    """Where images come from; picklable and small, so that a worker process can open it."""

    def images(self, ids: Strings, /) -> Fetched:
        """Read the images of (n,) ids; one that cannot be read is listed, not raised."""

    def mark(self) -> str:
        """Return what only a machine that sees the same images returns, too; where they are not it may raise."""


@dataclass(frozen=True)
class ShardFolders:
    """The images of some tasks' shard folders, opened when first asked.

    Attributes:
        folders: Of the shards, oldest first.
    """

    folders: tuple[Path, ...]

    def __reduce__(self) -> tuple[type["ShardFolders"], tuple[tuple[Path, ...]]]:
        folders = tuple(folder.absolute() for folder in self.folders)
        return ShardFolders, (folders,)  # never the open pool: pickling would read every image

    @cached_property
    def _pool(self) -> ItemPool:
        return ItemPool(shards=[load_shard(folder) for folder in self.folders])

    def images(self, ids: Strings, /) -> Fetched:
        """Read images by id.

        Raises:
            ArtifactError: if a shard is missing or damaged.
        """
        read = np.ones(len(ids), np.bool_)
        try:
            positions = self._pool.positions(ids)
        except DataError:
            read = np.isin(ids, self._pool.ids)  # compares with every id, so only where one is missing
            positions = self._pool.positions(ids[read])
        lost = dict.fromkeys(ids[~read].tolist(), "no image in the shards")
        return Fetched(images=self._pool.images(positions), read=read, reasons=lost)

    def mark(self) -> str:
        """Return a digest over the shards' places and records."""
        found = hashlib.sha256()
        for folder in self.folders:
            found.update(f"{folder.absolute()}\0".encode() + (folder / RECORD).read_bytes())
        return found.hexdigest()
