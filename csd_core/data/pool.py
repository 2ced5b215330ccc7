"""All items of several shards as one set, looked up by id or position; images stay memory-mapped."""

import math
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol, Self, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt

from csd_core.data.shards import Shard
from csd_core.engine.pace import Pace, Rows, ignore
from csd_core.engine.processes import LocalEngine
from csd_core.engine.work import CompleteWork, Engine, Job, in_order
from csd_core.system.console import progress
from csd_core.system.errors import DataError

CHUNK = 2048
"""Images gathered at a time; so many are embedded here whatever the engine, for starting others takes longer."""
SENT = 256
"""Images that are sent to another machine at a time: an embedder's batch, so that each has the same ones beside it."""

Strings = npt.NDArray[np.str_]
Text = TypeVar("Text", np.str_, np.bytes_)


class Embeds(Protocol):
    """Whatever turns images (N, H, W, C) uint8 into vectors (N, D) float32."""

    def __call__(self, images: npt.NDArray[np.uint8], /) -> npt.NDArray[np.float32]:
        """Embed."""


@runtime_checkable
class Portable(Embeds, Protocol):
    """An embedder that another machine can be given."""

    @property
    def threads(self) -> int:
        """Return its CPU threads."""

    @property
    def takes_gpu(self) -> bool:
        """Return whether it computes on a GPU where there is one."""

    def portable(self, *, gpu: bool) -> Embeds:
        """Return it for a machine that sees no file of this one."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageChunk:
    """Some of the images that are to be embedded.

    Attributes:
        start: Place of the first.
        images: (n, H, W, C) uint8.
    """

    start: int
    images: npt.NDArray[np.uint8]

    def __str__(self) -> str:
        return f"images {self.start} to {self.start + len(self.images) - 1}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageChunks:
    """All of them, each chunk read when it is asked for.

    Attributes:
        read: From a slice of places to (n, H, W, C) uint8.
        count: Images.
        step: Images of a chunk.
    """

    read: Callable[[slice], npt.NDArray[np.uint8]]
    count: int
    step: int

    def __len__(self) -> int:
        """Return the number of chunks; of no image there is one, too: its vectors have a width."""
        return max(1, math.ceil(self.count / self.step))

    def __getitem__(self, chunk: int, /) -> ImageChunk:
        """Read a chunk."""
        start = chunk * self.step
        return ImageChunk(start=start, images=self.read(slice(start, min(start + self.step, self.count))))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChunkEmbedder(CompleteWork[ImageChunk, npt.NDArray[np.float32]]):
    """Embeds chunks of images that are sent to whoever does it.

    Attributes:
        embedder: What embeds.
        threads: Its CPU threads.
        takes_gpu: Whether it computes on a GPU where there is one.
    """

    embedder: Any
    threads: int
    takes_gpu: bool

    def __call__(self, item: ImageChunk, pace: Pace, /) -> npt.NDArray[np.float32]:
        """Return (n, D) vectors."""
        vectors: npt.NDArray[np.float32] = self.embedder(item.images)
        pace.report(len(item.images))
        return vectors

    def portable(self, *, gpu: bool) -> Self:
        """Return the same with the model's bytes."""
        return replace(self, embedder=self.embedder.portable(gpu=gpu))


@dataclass(frozen=True, kw_only=True, eq=False)
class ItemPool:
    """The items of some shards, one after the other.

    Attributes:
        shards: Oldest first.
        engine: Who embeds many of them.
    """

    shards: Sequence[Shard]
    engine: Engine = LocalEngine()  # noqa: RUF009 - frozen

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

    def embed(
        self, positions: npt.NDArray[np.intp], embedder: Embeds, *, report: Rows | None = None
    ) -> npt.NDArray[np.float32]:
        """Return (len(positions), D) vectors, the same whoever embeds; few images are in memory at a time.

        Args:
            positions: Of the items.
            embedder: What embeds them. Only a `Portable` one can be given to other machines.
            report: Told of embedded images; None shows a bar.
        """
        if report is None and len(positions) > CHUNK:
            with progress("embed", total=len(positions), unit="images") as meter:
                return self.embed(positions, embedder, report=meter.advance)
        read = self.reader(positions, embedder)
        engine, step, threads, takes_gpu = self.engine, SENT, 1, False
        if len(positions) <= CHUNK or isinstance(engine, LocalEngine) or not isinstance(embedder, Portable):
            engine, step = LocalEngine(), CHUNK
        else:
            threads, takes_gpu = embedder.threads, embedder.takes_gpu
        job = Job(
            work=ChunkEmbedder(embedder=embedder, threads=threads, takes_gpu=takes_gpu),
            items=ImageChunks(read=read, count=len(positions), step=step),
            report=report or ignore,
        )
        with closing(engine.each(job)) as working:
            return np.concatenate(list(in_order(working)))

    def reader(self, positions: npt.NDArray[np.intp], _embedder: Embeds) -> Callable[[slice], npt.NDArray[np.uint8]]:
        """Return what reads the images at some of the positions, in the form that an embedder takes."""
        return lambda some: self.images(positions[some])


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
