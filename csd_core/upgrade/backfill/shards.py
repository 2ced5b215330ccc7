"""Shards of a backfill: ranges of ids, each a pure and idempotent unit of work.

    FOLDER/shard-00007/   shard.json  vectors.npy: a finished shard, in the order of its ids

The bytes of a row depend on the model, its image and the ids, and on nothing else: not on the number of processes, an
interruption, or which other images were missing. onnxruntime promises equal bits neither across batch sizes nor across
numbers of threads, so both are fixed here: BATCH images a call at fixed places in a shard, a missing one being black,
and one thread a session; more cores are used by more processes. (Processors of another make may still differ.)
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from csd_core.data.pool import ItemPool
from csd_core.data.shards import load_shard
from csd_core.records.stages import Digest, Record
from csd_core.retrieval.embedder import Embedder
from csd_core.system.atomic import atomic_folder
from csd_core.system.errors import ArtifactError, DataError
from csd_core.upgrade.backfill.workers import Pace

Strings = npt.NDArray[np.str_]
Images = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Device = Literal["auto", "cpu", "cuda"]

BATCH = 64
"""Images a call: as fast as more on a CPU, and a slow throttle lets through few at a time. Part of a row's bytes."""
SHARD_ROWS = 2048
"""Rows of a shard: what a killed process loses at most."""
THREADS = 1
"""Of a session. Part of a row's bytes."""
RECORD, VECTORS = "shard.json", "vectors.npy"


# --- images -----------------------------------------------------------------------------------------------------------


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
    """Where images come from; picklable and small, so that a worker process can open it for itself."""

    def images(self, ids: Strings, /) -> Fetched:
        """Read the images of (n,) ids; one that cannot be read is listed, not raised."""


@dataclass(frozen=True)
class ShardFolders:
    """The images of some tasks' shard folders, opened when first asked.

    Attributes:
        folders: Of the shards, oldest first.
    """

    folders: tuple[Path, ...]

    def __reduce__(self) -> tuple[type["ShardFolders"], tuple[tuple[Path, ...]]]:
        return ShardFolders, (self.folders,)  # never the open pool: pickling would read every image

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


# --- shards -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BackfillShard:
    """A range of ids.

    Attributes:
        number: Its place in the plan, from 0.
        ids: (n,) ascending.
    """

    number: int
    ids: Strings

    def __str__(self) -> str:
        return f"shard {self.number} (ids {self.ids[0]} to {self.ids[-1]})"

    @property
    def digest(self) -> Digest:
        """sha256 over the ids."""
        return hashlib.sha256(json.dumps(self.ids.tolist(), ensure_ascii=False).encode()).hexdigest()


class FailedImage(Record):
    """An image that could not be read."""

    id: str
    reason: str


class ShardResult(Record):
    """shard.json: what the vectors beside it are."""

    number: int
    ids: Digest
    """Over the ids of the shard."""
    model: Digest
    device: Device
    vectors: Digest
    """Over the (n, D) vectors; the row of an image that could not be read is zero."""
    failed: tuple[FailedImage, ...]


def plan_shards(ids: npt.ArrayLike, *, rows: int = SHARD_ROWS) -> tuple[BackfillShard, ...]:
    """Cut ids into shards of `rows`; a function of the set of ids alone.

    Raises:
        DataError: if an id occurs twice.
    """
    ascending = np.sort(np.asarray(ids, np.str_))
    twice = np.flatnonzero(ascending[1:] == ascending[:-1])
    if len(twice):
        raise DataError(f"backfill: id {ascending[twice[0]]} is asked for twice; give each row once")
    return tuple(
        BackfillShard(number=number, ids=ascending[start : start + rows])
        for number, start in enumerate(range(0, len(ascending), rows))
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class ShardEmbedder:
    """Embeds shards into a folder: here, in a process, or on another machine that sees model, source and folder.

    Attributes:
        model: The ONNX file.
        digest: What the file must be.
        source: Of the images.
        folder: Of the results.
        device: Where to compute; equal bytes are promised for `cpu`.
    """

    model: Path
    digest: Digest
    source: ImageSource
    folder: Path
    device: Device

    @cached_property
    def embedder(self) -> Embedder:
        """The model, loaded.

        Raises:
            ArtifactError: if it is not the model the backfill began with.
        """
        embedder = Embedder.load(self.model, device=self.device, threads=THREADS)
        if embedder.digest != self.digest:
            raise ArtifactError(
                f"{self.model}: is now {embedder.digest[:12]}, the backfill began with {self.digest[:12]}; put that "
                "model back or start again"
            )
        return embedder

    def home(self, shard: BackfillShard) -> Path:
        """Folder of a shard's result."""
        return self.folder / f"shard-{shard.number:05}"

    def finished(self, shard: BackfillShard) -> ShardResult | None:
        """Return the result of an earlier run for the same ids, model and device, if its vectors are intact."""
        home = self.home(shard)
        expected = (shard.digest, self.digest, self.device)
        try:
            result = ShardResult.load(home / RECORD)
            known = (result.ids, result.model, result.device) == expected
            return result if known and _digest(load_vectors(home)) == result.vectors else None
        except ArtifactError:
            return None

    def __call__(self, shard: BackfillShard, pace: Pace) -> ShardResult:
        """Embed a shard, or what of it an earlier run left to do, and write its result.

        A batch with an image that could not be read is tried again each time; the rest of a finished shard is kept.

        Raises:
            ArtifactError: if the model is missing or the result cannot be written.
            CompatibilityError: if the images do not fit the model.
        """
        earlier = self.finished(shard)
        if earlier and not earlier.failed:
            pace.report(len(shard.ids))
            return earlier
        missing = {failure.id: failure.reason for failure in earlier.failed} if earlier else {}
        vectors = (
            np.array(load_vectors(self.home(shard)))
            if earlier
            else np.zeros((len(shard.ids), self.embedder.metadata.dimension), np.float32)
        )
        failed: dict[str, str] = {}
        for start in range(0, len(shard.ids), BATCH):
            batch = shard.ids[start : start + BATCH]
            if not earlier or not missing.keys().isdisjoint(batch.tolist()):
                pace.admit(len(batch))
                vectors[start : start + BATCH] = self._embed(batch, failed)
            pace.report(len(batch))
        result = ShardResult(
            number=shard.number,
            ids=shard.digest,
            model=self.digest,
            device=self.device,
            vectors=_digest(vectors),
            failed=tuple(FailedImage(id=name, reason=reason) for name, reason in sorted(failed.items())),
        )
        home = self.home(shard)
        with writing(home), atomic_folder(home) as partial:
            np.save(partial / VECTORS, vectors, allow_pickle=False)
            result.save(partial / RECORD)
        return result

    def _embed(self, ids: Strings, failed: dict[str, str]) -> Floats:
        """Return (n, D) vectors of a batch, zero where `failed` then says why."""
        fetched = self.source.images(ids)
        if fetched.read.all() and len(fetched.images) == len(ids):
            return self.embedder(fetched.images, batch=BATCH)
        lost = ids[~fetched.read].tolist()
        if len(fetched.images) != fetched.read.sum() or fetched.reasons.keys() != set(lost):
            raise DataError(
                f"backfill: of {len(ids)} images asked for, the source gave {len(fetched.images)}, marked "
                f"{fetched.read.sum()} as read and {len(fetched.reasons)} as failed; it must account for each"
            )
        failed.update(fetched.reasons)
        vectors = np.zeros((len(ids), self.embedder.metadata.dimension), np.float32)
        if fetched.read.any():
            images = np.zeros((len(ids), *fetched.images.shape[1:]), np.uint8)
            images[fetched.read] = fetched.images
            vectors[fetched.read] = self.embedder(images, batch=BATCH)[fetched.read]
        return vectors


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Make a full or forbidden disk one line."""
    try:
        yield
    except OSError as error:
        raise ArtifactError(
            f"{target}: cannot be written ({error.strerror or error}); make room and run again, what is done is kept"
        ) from None


def load_vectors(home: Path) -> Floats:
    """Return (n, D) vectors of a finished shard.

    Raises:
        ArtifactError: if the file is missing or damaged.
    """
    try:
        vectors: Any = np.load(home / VECTORS, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ArtifactError(f"{home / VECTORS}: not a whole .npy file ({error}); run the backfill again") from None
    return np.asarray(vectors, np.float32)


def _digest(vectors: Floats) -> Digest:
    """sha256 over shape and bytes."""
    found = hashlib.sha256(repr(vectors.shape).encode())
    found.update(np.ascontiguousarray(vectors).data)
    return found.hexdigest()
