"""The edge to LanceDB: its errors as ours, rows in and out of an open table a batch at a time."""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from lancedb.expr import col
from lancedb.table import Table

from csd_core.live.rows import BATCH_ROWS
from csd_core.live.storage.columns import completed, stored
from csd_core.system.errors import ArtifactError, CsdError, StorageError, message_of

ADDRESS = "_rowid"
"""LanceDB's name for where a row lies: its file and its number there."""
_PANICS = ("RustPanic", "PanicException")  # a damaged file can make LanceDB's Rust panic; the classes have no module
_ANSWER = re.compile(r"<Code>(.*?)</Code>\s*<Message>(.*?)</Message>")
_CONNECTION = re.compile(r'ConnectError\("[^"]*", ([^,]+),.*?message: "([^"]*)"')


@contextmanager
def lance_errors(where: str) -> Iterator[None]:
    """LanceDB's errors, which are RuntimeError and the like, as ours."""
    try:
        yield
    except CsdError:
        raise
    except BaseException as error:
        if not isinstance(error, (RuntimeError, OSError, ValueError)) and type(error).__name__ not in _PANICS:
            raise
        if (stored := StorageError.told_in(str(error), where=f"live gallery, {where}")) is not None:
            raise stored from None
        if isinstance(error, OSError) and StorageError.is_meant(error):
            raise StorageError.of(error) from None
        raise ArtifactError(f"live gallery, {where}: {_with_remedy(message_of(error))}") from None


def _with_remedy(reason: str) -> str:
    """Return what LanceDB says, and what to do: an object store is set up in the environment."""
    if "BadScheme" in reason or "URL scheme is not allowed" in reason:
        return "the store's address begins with http:, without TLS; set AWS_ALLOW_HTTP=true, or take an https: address"
    if not any(word in reason for word in ("S3", "AWS", "GCS", "Azure", "object_store", "Object store")):
        return f"{reason}; `csd verify` says more"
    answer, connection = _ANSWER.search(reason), _CONNECTION.search(reason)
    if answer:
        reason = f"the store answers {answer[1]}: {answer[2]}"
    elif connection:
        reason = f"the store cannot be reached: {connection[2]} ({connection[1]})"
    elif "kind: Timeout" in reason:
        reason = "the store does not answer in time (AWS_TIMEOUT and AWS_CONNECT_TIMEOUT say how long it may take)"
    return f"{reason}; check live.uri and the variables AWS_ENDPOINT_URL, AWS_ALLOW_HTTP, AWS_REGION and the keys"


def scan(handle: Table, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The rows of an open table, a batch at a time; a column that a table of an earlier csd lacks is nulls."""
    with lance_errors(handle.name):
        wanted = columns or handle.schema.names
        for batch in handle.search().select(stored(wanted, handle.schema)).to_batches(batch_size=BATCH_ROWS):
            yield completed(batch, wanted)


def windows(handle: Table, columns: list[str], *, rows: int) -> Iterator[pa.RecordBatch]:
    """The rows of an open table, in the order of `scan`, so many at a time.

    Each window is a query of its own: within one, LanceDB reads up to 2 GiB ahead of a reader slower than the disk.
    ADDRESS is a column too.
    """
    with lance_errors(handle.name):
        for start in range(0, int(handle.count_rows()), rows):
            query = handle.search().with_row_id(ADDRESS in columns).select(stored(columns, handle.schema))
            query = query.offset(start).limit(rows)
            for batch in query.to_batches(batch_size=rows):
                yield completed(batch, columns)


def addresses(handle: Table) -> npt.NDArray[np.uint64]:
    """(N,) where the rows of an open table lie, ascending; a row that is written again gets another address."""
    with lance_errors(handle.name):
        found = handle.search().with_row_id(True).select([ADDRESS]).to_arrow()[ADDRESS].to_numpy()
    return np.sort(found)


def taken(handle: Table, at: npt.NDArray[np.uint64], columns: list[str], *, rows: int) -> Iterator[pa.RecordBatch]:
    """The rows of an open table at some addresses, so many at a time."""
    with lance_errors(handle.name):
        for start in range(0, len(at), rows):
            query = handle.take_row_ids(at[start : start + rows].tolist()).select(stored(columns, handle.schema))
            for batch in query.to_arrow().combine_chunks().to_batches():
                yield completed(batch, columns)


@contextmanager
def true_cause(batches: Iterable[pa.RecordBatch]) -> Iterator[Iterator[pa.RecordBatch]]:
    """Yield the batches; if making one fails, that error comes out instead of LanceDB's report of it."""
    causes: list[BaseException] = []

    def watched() -> Iterator[pa.RecordBatch]:
        try:
            yield from batches
        except BaseException as error:
            causes.append(error)
            raise

    try:
        yield watched()
    except Exception:
        if causes:
            raise causes[0] from None
        raise


def leaving_out(batches: Iterable[pa.RecordBatch], ids: pa.StringArray) -> Iterator[pa.RecordBatch]:
    """Rows of other ids."""
    return _filtered(batches, ids, pc.invert) if len(ids) else iter(batches)


def only(batches: Iterable[pa.RecordBatch], ids: pa.StringArray) -> Iterator[pa.RecordBatch]:
    """Rows of these ids."""
    return _filtered(batches, ids, lambda mask: mask)


def _filtered(
    batches: Iterable[pa.RecordBatch], ids: pa.StringArray, keep: Callable[[Any], Any]
) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        yield batch.filter(keep(pc.is_in(batch["id"], value_set=ids)))


def put(handle: Table, schema: pa.Schema, batches: Iterable[pa.RecordBatch], *, on: str = "id") -> None:
    """Insert rows, or replace those with the same key, in one commit; the caller holds the write lock.

    LanceDB alone would let two processes that insert the same new key at once write it twice.
    """
    with true_cause(batches) as reader, lance_errors(handle.name):
        rows = pa.RecordBatchReader.from_batches(schema, reader)
        handle.merge_insert(on).when_matched_update_all().when_not_matched_insert_all().execute(rows)


def remove(handle: Table, keys: Iterable[str], *, column: str = "id") -> int:
    """Delete rows by key, in one commit; returns how many there were."""
    wanted = list(keys)
    if not wanted:
        return 0
    with lance_errors(handle.name):
        gone: Any = handle.delete(col(column).isin(wanted))  # its annotation lacks the count
        return int(gone.num_deleted_rows)


def files_of(handle: Table) -> int:
    """Data files of the latest version of a table."""
    stats: Any = handle.stats()  # a dict, whatever its annotation says
    return int(stats["fragment_stats"]["num_fragments"])


def latest_time(handle: Table) -> np.datetime64:
    """When the last of its rows was written."""
    times = [pc.max(batch["written_at"].cast(pa.int64())).as_py() for batch in scan(handle, ["written_at"])]
    return np.datetime64(max(times, default=0), "us")
