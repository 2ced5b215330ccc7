"""Images of several shards as one set, and the batches of an epoch."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
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

    @property
    def groups(self) -> npt.NDArray[np.intp]:
        """(N,) numbers of the items' groups."""
        return self.pool.groups[self.rows]

    @property
    def remembered_ids(self) -> tuple[str, ...]:
        """Ids of the memory's images."""
        return tuple(self.pool.ids[self.rows[len(self) - self.remembered :]].tolist())

    def take(self, positions: Tensor) -> Tensor:
        """Images (n, H, W, C) uint8 at `positions` (n,) of this set, in that order."""
        if self.in_memory is not None:
            return self.in_memory[positions]
        rows = self.rows[positions.numpy()]
        order = np.argsort(rows)  # files are read from front to back
        images = np.empty((len(rows), *self.pool.shards[0].images.shape[1:]), np.uint8)
        images[order] = self.pool.images(rows[order])
        return torch.from_numpy(images)

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
    images: LabelledImages,
    *,
    batch_size: int,
    generator: torch.Generator,
    per_class: int | None = None,
    ranks: ProcessGroup = ALONE,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images (n, H, W, C) uint8 and targets (N,), in an order drawn from `generator`.

    Each new item comes once; with `per_class` as often as its class's turn comes. Targets are the whole batch's, images
    this process's share of it; every process draws the same order.
    """
    sizes = batch_sizes(images.per_epoch, batch_size)
    if per_class is None:
        batches: Sequence[Tensor] = torch.split(_order(images, generator)[: sum(sizes)], sizes)
    else:
        batches = list(_balanced(images, sizes, per_class, generator))  # before anything else is drawn
    shares = (positions[ranks.share(len(positions))] for positions in batches)
    taken = map(images.take, shares) if images.in_memory is not None else _ahead(images.take, shares)
    for positions, mine in zip(batches, taken, strict=True):
        yield mine, images.targets[positions]


def _ahead(take: Callable[[Tensor], Tensor], shares: Iterable[Tensor]) -> Iterator[Tensor]:
    """Yield what is taken for each share, the next of which is read and decoded while one is trained on."""
    with ThreadPoolExecutor(1) as reader:
        before: Future[Tensor] | None = None
        for share in shares:
            following = reader.submit(take, share)
            if before:
                yield before.result()
            before = following
        if before:
            yield before.result()


def class_weights(images: LabelledImages, classes: int) -> Tensor:
    """Return (classes,) float32: inverse to how often an epoch shows each class, 1 in the mean over what it shows.

    A class without images weighs 1.
    """
    new = len(images) - images.remembered
    shown = images.targets[:new].bincount(minlength=classes).double()
    if images.remembered:
        shown += images.targets[new:].bincount(minlength=classes) * (new / images.remembered)
    weights = shown.sum() / ((shown > 0).sum() * shown)
    return torch.where(shown > 0, weights, 1.0).float()


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


def _balanced(
    images: LabelledImages, sizes: Sequence[int], per_class: int, generator: torch.Generator
) -> Iterator[Tensor]:
    """Yield the positions of each batch, P x K (Hermans et al., 2017); with a memory, a new class and an old by turns.

    A batch has different classes as long as there are so many. Each class's images are gone through in another order
    as often as needed.
    """
    new = len(images) - images.remembered
    parts = [_Classes(images.targets[:new], 0, generator)]
    if images.remembered:
        parts.append(_Classes(images.targets[new:], new, generator))
    for size in sizes:
        turns = [parts[turn % len(parts)] for turn in range(math.ceil(size / per_class))]
        chosen = {part: iter(part.draw(turns.count(part))) for part in parts}
        yield torch.cat([part.take(next(chosen[part]), per_class) for part in turns])[:size]


class _Classes:
    """Images of which some of a class are taken at a time."""

    def __init__(self, targets: Tensor, first: int, generator: torch.Generator) -> None:
        """Take over images whose positions begin at `first`."""
        present = torch.bincount(targets).nonzero().squeeze(1).tolist()
        self._images: list[Tensor] = [first + (targets == each).nonzero().squeeze(1) for each in present]
        self._waiting: list[Tensor] = [each[:0] for each in self._images]
        self._generator = generator

    def draw(self, count: int) -> list[int]:
        """Return so many classes, each as often as any other, but for one time."""
        rounds = math.ceil(count / len(self._images))
        drawn = [torch.randperm(len(self._images), generator=self._generator) for _ in range(rounds)]
        return [number for each in drawn for number in each.tolist()][:count]

    def take(self, number: int, count: int) -> Tensor:
        """Return the positions of the next `count` images of a class."""
        images, waiting = self._images[number], self._waiting[number]
        while len(waiting) < count:
            waiting = torch.cat([waiting, images[torch.randperm(len(images), generator=self._generator)]])
        self._waiting[number] = waiting[count:]
        return waiting[:count]
