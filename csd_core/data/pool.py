"""All items of several shards as one set, looked up by id or position; images stay memory-mapped."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from csd_core.data.shards import Shard
from csd_core.system.errors import DataError

CHUNK = 2048
"""Images gathered at a time."""

Strings = npt.NDArray[np.str_]
Text = TypeVar("Text", np.str_, np.bytes_)


class Embeds(Protocol):
    """Whatever turns images (N, H, W, C) uint8 into vectors (N, D) float32."""

    def __call__(self, images: npt.NDArray[np.uint8], /) -> npt.NDArray[np.float32]:
        """Embed."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ItemPool:
    """The items of some shards, one after the other.

    Attributes:
        shards: Oldest first.
    """

    shards: Sequence[Shard]

    @cached_property
    def ids(self) -> Strings:
        """(N,) content hashes."""
        return np.concatenate([shard.ids for shard in self.shards])

    @cached_property
    def labels(self) -> Strings:
        """(N,) class names."""
        return np.concatenate([shard.labels for shard in self.shards])

    @cached_property
    def splits(self) -> Strings:
        """(N,) train, select, gate or test."""
        return np.concatenate([shard.splits for shard in self.shards])

    @cached_property
    def groups(self) -> npt.NDArray[np.intp]:
        """(N,) number of each item's group, that of near-duplicates; an item on its own has one to itself."""
        if all(shard.groups is None for shard in self.shards):
            return np.arange(len(self.ids))
        names = [shard.ids if shard.groups is None else shard.groups for shard in self.shards]
        return np.unique(np.concatenate(names), return_inverse=True)[1]

    @cached_property
    def tasks(self) -> Strings:
        """(N,) the task each item came with."""
        return np.repeat([shard.record.task for shard in self.shards], [len(shard.ids) for shard in self.shards])

    @cached_property
    def _starts(self) -> npt.NDArray[np.intp]:
        return np.cumsum([0, *(len(shard.images) for shard in self.shards)])

    @cached_property
    def _by_id(self) -> npt.NDArray[np.intp]:
        return np.argsort(self.ids, kind="stable")

    def rows(self, *splits: str) -> npt.NDArray[np.intp]:
        """Return positions of the items of some splits."""
        return np.flatnonzero(np.isin(self.splits, splits))

    def positions(self, ids: Strings) -> npt.NDArray[np.intp]:
        """Return positions of items by id.

        Raises:
            DataError: if an item is not there.
        """
        return positions_in(self.ids, ids, order=self._by_id)

    def images(self, positions: npt.NDArray[np.intp]) -> npt.NDArray[np.uint8]:
        """Return (len(positions), H, W, C) uint8."""
        owner = np.searchsorted(self._starts, positions, side="right") - 1
        gathered = np.empty((len(positions), *self.shards[0].images.shape[1:]), np.uint8)
        for number in np.unique(owner):
            mine = owner == number
            gathered[mine] = self.shards[number].images[positions[mine] - self._starts[number]]
        return gathered

    def embed(self, positions: npt.NDArray[np.intp], embedder: Embeds) -> npt.NDArray[np.float32]:
        """Return (len(positions), D) vectors; a chunk of images is in memory at a time."""
        parts = [
            embedder(self.images(positions[start : start + CHUNK])) for start in range(0, max(1, len(positions)), CHUNK)
        ]
        return np.concatenate(parts)


def positions_in(
    known: npt.NDArray[Text], ids: npt.NDArray[Text], *, order: npt.NDArray[np.intp]
) -> npt.NDArray[np.intp]:
    """Return positions of ids among the known ones, which are not all in order.

    Args:
        known: (N,) unique.
        ids: (n,) wanted.
        order: (N,) that sorts the known ones.

    Raises:
        DataError: if an id is not there.
    """
    found = np.searchsorted(known, ids, sorter=order)
    at = order[np.minimum(found, len(known) - 1)]
    missing = np.flatnonzero(known[at] != ids)
    if len(missing):
        first = ids[missing].astype(np.str_)[0]
        raise DataError(
            f"{len(missing)} items of the gallery have no image in the shards, such as {first}; restore the shard it "
            "came from (`dvc checkout`)"
        )
    return at
