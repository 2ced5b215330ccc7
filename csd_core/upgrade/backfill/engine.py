"""Backfill: re-embedding rows from their images, shard by shard, with one result whatever happens on the way.

FOLDER/shard-00007/   a finished shard (see `csd_core.upgrade.backfill.shards`)
FOLDER/vectors.npy    the rows of all shards, in the order the ids were given
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from csd_core.engine.pace import Rows
from csd_core.engine.processes import LocalEngine
from csd_core.engine.work import Engine, Job
from csd_core.retrieval.embedder import Embedder
from csd_core.system.atomic import atomic_file
from csd_core.system.console import progress
from csd_core.system.errors import DataError
from csd_core.system.locks import Lock
from csd_core.upgrade.backfill.embedding import THREADS, ShardEmbedder
from csd_core.upgrade.backfill.images import ImageSource
from csd_core.upgrade.backfill.shards import (
    SHARD_ROWS,
    VECTORS,
    BackfillShard,
    Device,
    FailedImage,
    Floats,
    ShardResult,
    ShardResults,
    Strings,
    load_vectors,
    plan_shards,
    writing,
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Backfilled:
    """Rows re-embedded.

    Attributes:
        ids: (n,) those embedded, in the order they were asked for.
        vectors: (n, D) float32 of unit length, memory-mapped from the work folder.
        failed: The others, by id.
    """

    ids: Strings
    vectors: Floats
    failed: tuple[FailedImage, ...]

    def complete(self) -> Floats:
        """Return the vectors, if none is missing.

        Raises:
            DataError: if an image could not be read.
        """
        if self.failed:
            first = self.failed[0]
            raise DataError(
                f"backfill: {len(self.failed)} of {len(self.failed) + len(self.ids)} images could not be read, such "
                f"as {first.id} ({first.reason}); restore them and run again, the others are kept"
            )
        return self.vectors


def backfill(
    ids: npt.ArrayLike,
    *,
    model: Path,
    source: ImageSource,
    folder: Path,
    engine: Engine = LocalEngine(),  # noqa: B008 - frozen
    max_rows_per_second: float | None = None,
    shard_rows: int = SHARD_ROWS,
    device: Device = "cpu",
) -> Backfilled:
    """Re-embed rows, in this process or others, with a progress bar.

    A run that was interrupted continues where it stopped if it is given the same ids and folder. The folder belongs to
    one backfill of unchanging images (a result is known by ids and model, not by pixels); the caller deletes it when
    the vectors are used. With several processes, a script must guard its entry by `if __name__ ==
    "__main__"`.

    Args:
        ids: (n,) rows to embed, each once.
        model: The ONNX file.
        source: Of the images.
        folder: Of the results.
        engine: Who embeds; by default this process.
        max_rows_per_second: Over all workers; None for full speed.
        shard_rows: Rows of a shard.
        device: Where to compute.

    Raises:
        ParamsError: if the rate is not positive, or the engine is not installed.
        DataError: if an id occurs twice.
        ArtifactError: if the model is missing.
        BusyError: if another backfill is at work in the folder.
        CompatibilityError: if the images do not fit the model.
        CsdError: if a worker dies; finished shards stay.
    """
    names = np.asarray(ids, np.str_)
    plan = plan_shards(names, rows=shard_rows)
    loaded = Embedder.load(model, device=device, threads=THREADS)  # fails here, not in a worker
    embed = ShardEmbedder(model=model, digest=loaded.digest, source=source, device=device)
    results = ShardResults(folder=folder, model=loaded.digest, device=device)
    with _alone(folder):
        done = {shard.number: result for shard in plan if (result := results.whole(shard))}
        todo = [shard for shard in plan if shard.number not in done]
        with progress("backfill", total=len(names), unit="images") as meter:
            meter.resume_at(len(names) - sum(len(shard.ids) for shard in todo))
            for result in embed_shards(
                embed, todo, results, engine=engine, max_rows_per_second=max_rows_per_second, report=meter.advance
            ):
                done[result.number] = result
        return _assemble(names, plan, done, results, dimension=loaded.metadata.dimension)


def embed_shards(
    embed: ShardEmbedder,
    shards: Sequence[BackfillShard],
    results: ShardResults,
    *,
    engine: Engine,
    max_rows_per_second: float | None,
    report: Rows,
) -> Iterator[ShardResult]:
    """Embed shards and keep what comes of them, as it comes.

    Args:
        embed: What embeds one.
        shards: What is to be done.
        results: Where it is kept.
        engine: Who embeds.
        max_rows_per_second: Over all workers; None for full speed.
        report: Told of finished rows.

    Raises:
        CsdError: as `Engine.each` does; what came before stays.
    """
    tasks = [results.task(shard) for shard in shards]
    job = Job(work=embed, items=tasks, max_rows_per_second=max_rows_per_second, report=report)
    with closing(engine.each(job)) as working:
        for _, embedded in working:
            yield results.keep(embedded)


def _assemble(
    names: Strings,
    plan: Sequence[BackfillShard],
    done: Mapping[int, ShardResult],
    results: ShardResults,
    *,
    dimension: int,
) -> Backfilled:
    """One file of all rows that could be embedded, in the order asked for; a shard is in memory at a time."""
    failed = tuple(failure for shard in plan for failure in done[shard.number].failed)
    found = ~np.isin(names, np.array([failure.id for failure in failed], np.str_))  # (n,)
    row = np.where(found, np.cumsum(found) - 1, -1)[np.argsort(names)]  # (n,) by rank of the id: its row, or -1
    rows = int(found.sum())
    if not rows:
        return Backfilled(ids=names[found], vectors=np.empty((0, dimension), np.float32), failed=failed)
    target = results.folder / VECTORS
    with writing(target), atomic_file(target) as partial:
        written = np.lib.format.open_memmap(partial, mode="w+", dtype=np.float32, shape=(rows, dimension))
        if hasattr(os, "posix_fallocate"):  # a disk that fills up under a memory map kills the process
            with partial.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, partial.stat().st_size)
        start = 0
        for shard in plan:
            to = row[start : start + len(shard.ids)]
            written[to[to >= 0]] = load_vectors(results.home(shard))[to >= 0]
            start += len(shard.ids)
        written.flush()
        del written
    return Backfilled(ids=names[found], vectors=np.load(target, mmap_mode="r", allow_pickle=False), failed=failed)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep a second backfill out of the folder; a killed one holds nothing."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with Lock(folder / ".lock", what=f"backfill {folder}").held(wait=0):
        yield
