"""Vectors of all images in a folder, as one Parquet file; a run that was stopped continues where it was.

    DIR/out.parquet          path, id, vector; the model is named in the file's metadata
    DIR/out.rejected.csv     path, reason: files that are no images, if there are any
    DIR/.out.parquet.parts/  finished parts of a run under way, or of one that was killed

The bytes depend on the model, the files and the batch, and on nothing else: not on the number of threads or on
interruptions. So a batch has its fixed place in the list of files, an image that cannot be read is black in it, and
each is embedded by one thread; more threads embed more batches at once. (Processors of another make, and GPUs, may
differ in the last bits.)
"""

import csv
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from csd_core.data.decode import decode
from csd_core.live.images import content_id
from csd_core.retrieval.embedder import Embedder
from csd_core.serving.bulk.files import FoundFile, Rejection, list_files
from csd_core.serving.bulk.parts import Parts, Plan, remove_joined
from csd_core.system.atomic import atomic_file
from csd_core.system.console import echo, progress
from csd_core.system.errors import DataError, ParamsError
from csd_core.system.locks import Lock
from csd_core.upgrade.backfill.shards import writing

FORMAT = "1"
"""Of the Parquet file."""
BATCH = 128
"""Images a call. Part of a vector's bytes."""
PART_ROWS = 4096
"""Files of a part: what a killed run loses at most."""
THREADS = 1
"""Of the session that `embed_folder` is given. Part of a vector's bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The result of a run.

    Attributes:
        rows: Vectors.
        rejected: Files without one.
        rejections: The file that says why, if there are any.
    """

    rows: int
    rejected: int
    rejections: Path | None


def embed_folder(
    folder: Path,
    target: Path,
    *,
    embedder: Embedder,
    batch: int = BATCH,
    threads: int = 0,
    overwrite: bool = False,
    part_rows: int = PART_ROWS,
) -> Outcome:
    """Embed all images below a folder, or what an earlier run left to do.

    Args:
        folder: Of image files of any name, at any depth; hidden ones are left out.
        target: The Parquet file to write.
        embedder: Loaded with THREADS threads.
        batch: Images a call.
        threads: Batches that are decoded and embedded at once; 0 for one on each processor.
        overwrite: Replace `target`.
        part_rows: Files of a part.

    Raises:
        ParamsError: if `target` is there already, or a number is too small.
        DataError: if the folder is missing, or nothing in it could be embedded.
        ArtifactError: if the disk is full, or may not be written to.
        BusyError: if another process is writing `target`.
    """
    if batch < 1 or threads < 0:
        raise ParamsError(f"batch {batch}, threads {threads}: a batch has at least 1 image, and threads are 0 or more")
    work = target.with_name(f".{target.name}.parts")
    if target.is_file() and not overwrite:
        with writing(target):
            remove_joined(work, target)
    _refuse_taken(target, overwrite=overwrite)
    rejections = target.with_name(f"{target.stem}.rejected.csv")
    listing = list_files(folder, leave_out={target, rejections})
    if not listing.entries and not listing.rejected:
        raise DataError(f"{folder}: there are no files in it; name a folder with images")
    with writing(target):
        work.mkdir(parents=True, exist_ok=True)
    with Lock(work / "lock", what=str(target)).held(wait=0), writing(target):
        _refuse_taken(target, overwrite=overwrite)  # by a run that finished while this one looked through the folder
        plan = Plan(model=embedder.digest, files=listing.digest, batch=batch, part_rows=part_rows)
        parts = Parts(work, plan, listing.entries, dimension=embedder.metadata.dimension)
        parts.begin()
        _embed(parts, embedder, folder=folder, threads=threads or os.cpu_count() or 1)
        return _join(parts, target, rejections, listing.rejected, folder=folder)


def _refuse_taken(target: Path, *, overwrite: bool) -> None:
    if target.is_dir():
        raise ParamsError(f"{target}: is a folder; name the Parquet file to write")
    if target.exists() and not overwrite:
        raise ParamsError(f"{target}: is there already; name another file, or replace it with --overwrite")


def _embed(parts: Parts, embedder: Embedder, *, folder: Path, threads: int) -> None:
    """Make the parts that are not there."""
    left = [number for number in range(len(parts)) if not parts.finished(number)]
    total = sum(len(parts.entries(number)) for number in range(len(parts)))
    done = total - sum(len(parts.entries(number)) for number in left)
    if done:
        echo(f"{done:,} of {total:,} files were embedded by an earlier run")
    step = parts.plan.batch
    batches = [
        parts.entries(number)[at : at + step] for number in left for at in range(0, len(parts.entries(number)), step)
    ]

    def work(batch: Sequence[FoundFile]) -> pa.Table:
        return _batch(batch, parts, embedder, folder=folder)

    tables = _in_order(work, batches, threads=threads)
    with progress("embed", total=total, unit="images") as meter:
        meter.resume_at(done)
        for number in left:
            some: list[pa.Table] = []
            while sum(table.num_rows for table in some) < len(parts.entries(number)):
                some.append(next(tables))
                meter.advance(some[-1].num_rows)
            parts.save(number, pa.concat_tables(some))


def _in_order(
    work: Callable[[Sequence[FoundFile]], pa.Table], batches: Sequence[Sequence[FoundFile]], *, threads: int
) -> Iterator[pa.Table]:
    """Results in the order of the batches; no more than two a thread are ahead of whoever takes them."""
    pool = ThreadPoolExecutor(threads, "csd-embed")
    ahead: deque[Future[pa.Table]] = deque()
    try:
        for batch in batches:
            ahead.append(pool.submit(work, batch))
            if len(ahead) > 2 * threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _batch(entries: Sequence[FoundFile], parts: Parts, embedder: Embedder, *, folder: Path) -> pa.Table:
    """Rows of some files: path, id, vector, reason."""
    form = embedder.metadata.form
    images = np.zeros((len(entries), form.size, form.size, form.channels), np.uint8)
    ids = [""] * len(entries)
    reasons: list[str | None] = [None] * len(entries)
    for row, entry in enumerate(entries):
        try:
            images[row] = decode(folder / entry.path, form)
            ids[row] = content_id(images[row])
        except DataError as error:
            reasons[row] = str(error)
    vectors = pa.FixedSizeListArray.from_arrays(embedder(images, batch=len(images)).ravel(), parts.dimension)
    columns: list[Any] = [[entry.path for entry in entries], ids, vectors, pa.array(reasons, pa.string())]
    return pa.table(columns, schema=parts.schema.append(pa.field("reason", pa.string())))


def _join(parts: Parts, target: Path, rejections: Path, rejected: Sequence[Rejection], *, folder: Path) -> Outcome:
    """Write what has vectors to `target` and the rest beside it, then remove the parts.

    Raises:
        DataError: if nothing has a vector.
    """
    with atomic_file(target) as partial:
        rows, unusable = _write(parts, partial)
        without = sorted([*rejected, *unusable])
        _write_rejections(rejections, without)
        if not rows:
            parts.remove()  # a file that could not be read may be readable next time
            raise DataError(f"{folder}: none of its {len(without)} files could be embedded; {rejections} says why")
        parts.joined(partial)
    parts.remove()
    return Outcome(rows=rows, rejected=len(without), rejections=rejections if without else None)


def _write(parts: Parts, partial: Path) -> tuple[int, list[Rejection]]:
    """All rows that have vectors, a part at a time; returns their number, and the files without one."""
    about = {"csd.format": FORMAT, "csd.model": parts.plan.model, "csd.dimension": str(parts.dimension)}
    schema = parts.schema.with_metadata(about)
    unusable: list[Rejection] = []
    rows = 0
    with pq.ParquetWriter(partial, schema, compression="zstd", use_dictionary=False) as writer:
        for number in range(len(parts)):
            table = parts.table(number)
            bad = pc.is_valid(table["reason"])
            unusable += [Rejection(**row) for row in table.filter(bad).select(["path", "reason"]).to_pylist()]
            good = table.filter(pc.invert(bad)).select(schema.names)
            if good.num_rows:
                writer.write_table(good)
            rows += good.num_rows
    return rows, unusable


def _write_rejections(file: Path, rejected: Sequence[Rejection]) -> None:
    if not rejected:
        file.unlink(missing_ok=True)  # of a result that this one replaces
        return
    with atomic_file(file) as partial, partial.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(Rejection._fields)
        writer.writerows(rejected)
