"""Shards of a backfill: ranges of ids, each a pure and idempotent unit of work, and their results in a folder.

    FOLDER/shard-00007/   shard.json  vectors.npy: a finished shard, in the order of its ids

Whoever embeds a shard writes nothing (`csd_core.upgrade.backfill.embedding`); who asked for it does.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from csd_core.records.stages import Digest, Record
from csd_core.system.atomic import atomic_folder
from csd_core.system.errors import ArtifactError, DataError

Strings = npt.NDArray[np.str_]
Floats = npt.NDArray[np.float32]
Device = Literal["auto", "cpu", "cuda"]

BATCH = 64
"""Images a call: as fast as more on a CPU, and a slow throttle lets through few at a time. Part of a row's bytes."""
SHARD_ROWS = 2048
"""Rows of a shard: what a killed process loses at most."""
RECORD, VECTORS = "shard.json", "vectors.npy"


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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ShardTask:
    """What of a shard is to be embedded.

    Attributes:
        shard: The ids.
        failed: Those whose image an earlier run could not read: only their batches are done again. None for all.
    """

    shard: BackfillShard
    failed: frozenset[str] | None = None

    def __str__(self) -> str:
        return str(self.shard)

    def batches(self) -> Iterator[tuple[int, Strings]]:
        """Yield the place of each batch to embed, and its ids."""
        for start in range(0, len(self.shard.ids), BATCH):
            batch = self.shard.ids[start : start + BATCH]
            if self.failed is None or not self.failed.isdisjoint(batch.tolist()):
                yield start, batch


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EmbeddedShard:
    """What came of a task.

    Attributes:
        task: It.
        vectors: (n, D) of all ids of the shard; zero where an image could not be read, and in batches not asked for.
        failed: Id -> why its image could not be read.
    """

    task: ShardTask
    vectors: Floats
    failed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardResults:
    """The finished shards of one backfill.

    Attributes:
        folder: Where they lie.
        model: The model that makes them.
        device: What it was asked to compute on; equal bytes are promised for `cpu`.
    """

    folder: Path
    model: Digest
    device: Device

    def home(self, shard: BackfillShard) -> Path:
        """Folder of a shard's result."""
        return self.folder / f"shard-{shard.number:05}"

    def finished(self, shard: BackfillShard) -> ShardResult | None:
        """Return the result of an earlier run for the same ids, model and device, if its vectors are intact."""
        home = self.home(shard)
        expected = (shard.digest, self.model, self.device)
        try:
            result = ShardResult.load(home / RECORD)
            known = (result.ids, result.model, result.device) == expected
            return result if known and _digest(load_vectors(home)) == result.vectors else None
        except ArtifactError:
            return None

    def whole(self, shard: BackfillShard) -> ShardResult | None:
        """Return the same, if every image could be read."""
        earlier = self.finished(shard)
        return None if earlier is None or earlier.failed else earlier

    def task(self, shard: BackfillShard) -> ShardTask:
        """Return what is to be done of a shard that is not whole."""
        earlier = self.finished(shard)
        failed = frozenset(failure.id for failure in earlier.failed) if earlier else None
        return ShardTask(shard=shard, failed=failed)

    def keep(self, embedded: EmbeddedShard) -> ShardResult:
        """Write what came of a task, with what an earlier run had embedded.

        Raises:
            ArtifactError: if it cannot be written.
        """
        shard, vectors = embedded.task.shard, embedded.vectors
        if embedded.task.failed is not None:
            kept = np.array(load_vectors(self.home(shard)))
            for start, batch in embedded.task.batches():
                kept[start : start + len(batch)] = vectors[start : start + len(batch)]
            vectors = kept
        result = ShardResult(
            number=shard.number,
            ids=shard.digest,
            model=self.model,
            device=self.device,
            vectors=_digest(vectors),
            failed=tuple(FailedImage(id=name, reason=reason) for name, reason in sorted(embedded.failed.items())),
        )
        home = self.home(shard)
        with writing(home), atomic_folder(home) as partial:
            np.save(partial / VECTORS, vectors, allow_pickle=False)
            result.save(partial / RECORD)
        return result


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
