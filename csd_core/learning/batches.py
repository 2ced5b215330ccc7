"""Images of several shards as one set, and the batches of an epoch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from csd_core.data.pool import CHUNK, ItemPool
from csd_core.learning.distributed.group import ALONE, ProcessGroup
from csd_core.system.errors import DataError, TrainingError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelledImages:
    """Some rows of a pool, with targets; in memory, or read from its memory-mapped files.

    Attributes:
        pool: The items.
        rows: (N,) their positions.
        targets: (N,) int64, position of an item's class in the list of classes.
        in_memory: (N, H, W, C) uint8, or None where images are read as they are needed.
        remembered: How many of them, the last ones, are the memory of older tasks.
    """

    pool: ItemPool
    rows: npt.NDArray[np.intp]
    targets: Tensor
    in_memory: Tensor | None
    remembered: int = 0

    @classmethod
    def of(cls, pool: ItemPool, split: str, *, classes: Sequence[str], max_in_memory_mb: int) -> Self:
        """Return the items of one split: train, select, gate or test; the rest as `at`."""
        return cls.at(pool, pool.rows(split), classes=classes, max_in_memory_mb=max_in_memory_mb)

    @classmethod
    def at(
        cls,
        pool: ItemPool,
        rows: npt.NDArray[np.intp],
        *,
        classes: Sequence[str],
        max_in_memory_mb: int,
        remembered: int = 0,
    ) -> Self:
        """Return some items.

        Args:
            pool: Of the shards.
            rows: (N,) their positions.
            classes: What targets count in.
            max_in_memory_mb: Sets up to this size (MiB of uint8) are held in memory.
            remembered: How many of them, the last ones, are the memory of older tasks.

        Raises:
            DataError: if an item's class is not in `classes`.
        """
        names, codes = np.unique(pool.labels[rows], return_inverse=True)
        unknown = sorted(set(names.tolist()) - set(classes))
        if unknown:
            raise DataError(f"class {unknown[0]} has images but no column; list it in its shard's classes")
        columns = np.array([classes.index(name) for name in names.tolist()], np.int64)
        targets = torch.from_numpy(columns[codes] if len(rows) else np.empty(0, np.int64))
        shape = (len(rows), *pool.shards[0].images.shape[1:])
        in_memory = _read(pool, rows, shape) if np.prod(shape) <= max_in_memory_mb * 2**20 else None
        return cls(pool=pool, rows=rows, targets=targets, in_memory=in_memory, remembered=remembered)

    def __len__(self) -> int:
        """N."""
        return len(self.rows)

    @property
    def per_epoch(self) -> int:
        """How many images an epoch shows: each once, but of a memory as many as there are new ones."""
        return 2 * (len(self) - self.remembered) if self.remembered else len(self)

    def take(self, positions: Tensor) -> Tensor:
        """Images (n, H, W, C) uint8 at `positions` (n,) of this set, in that order."""
        if self.in_memory is not None:
            return self.in_memory[positions]
        ordered, order = positions.sort()  # files are read from front to back
        images = torch.empty((len(positions), *self.pool.shards[0].images.shape[1:]), dtype=torch.uint8)
        images[order] = torch.from_numpy(self.pool.images(self.rows[ordered.numpy()]))
        return images

    def part(self, rows: slice) -> "LabelledImages":
        """Return some of these images, in their order."""
        in_memory = None if self.in_memory is None else self.in_memory[rows]
        return LabelledImages(pool=self.pool, rows=self.rows[rows], targets=self.targets[rows], in_memory=in_memory)


def _read(pool: ItemPool, rows: npt.NDArray[np.intp], shape: tuple[int, ...]) -> Tensor:
    images = np.empty(shape, np.uint8)
    for start in range(0, len(rows), CHUNK):
        images[start : start + CHUNK] = pool.images(rows[start : start + CHUNK])
    return torch.from_numpy(images)


def batch_sizes(count: int, batch_size: int) -> list[int]:
    """Sizes of an epoch's batches. A last batch of one image is left out: batch norm and the triplet need two.

    Raises:
        TrainingError: if that leaves nothing.
    """
    full, rest = divmod(count, batch_size)
    sizes = [batch_size] * full + ([rest] if rest > 1 else [])
    if not sizes:
        raise TrainingError(f"{count} training image(s): a stage needs at least 2; add images to the task")
    return sizes


def epoch_batches(
    images: LabelledImages, *, batch_size: int, generator: torch.Generator, ranks: ProcessGroup = ALONE
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images (n, H, W, C) uint8 and targets (N,), each new item once, in an order drawn from `generator`.

    Targets are the whole batch's, images this process's share of it; every process draws the same order.
    """
    sizes = batch_sizes(images.per_epoch, batch_size)
    order = _order(images, generator)[: sum(sizes)]
    for positions in torch.split(order, sizes):
        yield images.take(positions[ranks.share(len(positions))]), images.targets[positions]


def _order(images: LabelledImages, generator: torch.Generator) -> Tensor:
    """Return (per_epoch,) positions; with a memory, a new image and one of the memory by turns.

    The memory is gone through in another order as often as needed (experience replay, Chaudhry et al., 2019).
    """
    kept, new = images.remembered, len(images) - images.remembered
    order = torch.randperm(new, generator=generator)
    if not kept:
        return order
    rounds = [new + torch.randperm(kept, generator=generator) for _ in range(0, new, kept)]
    return torch.stack([order, torch.cat(rounds)[:new]], dim=1).flatten()
