"""Rows of a table held in memory, in little more room than their vectors take, or mapped from the files of an index.

N rows, n of them in a part, D dimensions. The columns but for the ids repeat a few words, so they are kept as numbers
of words; and a table is read a window at a time into arrays of the final size, for Arrow's batches hold every column as
long as one is used.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from lancedb.table import Table
from numpy.lib import format as npy

from csd_core.live.index.nearest import Nearest
from csd_core.live.reader import WINDOW, dimension_of
from csd_core.live.rows import Vectors, vectors_of
from csd_core.live.rules import SearchGroup
from csd_core.live.storage.lance import ADDRESS, windows
from csd_core.retrieval.gallery import Provenance
from csd_core.system.errors import ArtifactError

REPETITIVE = ("label", "task", "embedded_by", "space", "origin", "source")
_TIME = pa.timestamp("us", "UTC")
Batches = Callable[[list[str]], Iterator[pa.RecordBatch]]
"""Columns -> the rows, a batch at a time, in the same order whenever it is called."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RowsPart:
    """The rows of one group.

    Attributes:
        group: How they are searched.
        positions: (n,) ascending, among all rows; None where the group has them all.
        vectors: (n, D) float32 of unit length.
        nearest: Their index; None where each is compared.
    """

    group: SearchGroup
    positions: npt.NDArray[np.intp] | None
    vectors: Vectors
    nearest: Nearest | None = None

    def put(self, positions: npt.NDArray[np.intp], vectors: Vectors) -> None:
        """Set the vectors of those of some rows that are in the group.

        Args:
            positions: (m,) among all rows.
            vectors: (m, W).
        """
        if self.positions is None:
            self.vectors[positions] = vectors
            return
        at = np.searchsorted(self.positions, positions)
        mine = self.positions[np.minimum(at, len(self.positions) - 1)] == positions
        self.vectors[at[mine]] = vectors[mine, : self.vectors.shape[1]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rows:
    """Rows in memory, by ascending id.

    Attributes:
        facts: N rows of id, path, written_at and the columns of REPETITIVE, which are dictionary-encoded; of an index
            the column ADDRESS too, where LanceDB has the row.
        parts: Their vectors, group by group; each row is in one of them.
    """

    facts: pa.RecordBatch
    parts: tuple[RowsPart, ...]

    @classmethod
    def read(
        cls,
        handle: Table,
        table: str,
        groups: Sequence[SearchGroup],
        *,
        batches: Batches | None = None,
        into: Path | None = None,
    ) -> "Rows":
        """Rows of an open table, which are read twice.

        Args:
            handle: Whose version is checked out.
            table: Its name.
            groups: Its rows are in; the first has those that none of them names.
            batches: Some of its rows; by default all.
            into: A folder for the vectors (`vectors_file`), which are mapped then, and the rows' addresses are read;
                None for memory.

        Raises:
            ArtifactError: if the rows do not come in the same order twice.
        """
        dimension = dimension_of(handle)
        batches = batches or partial(windows, handle, rows=max(1, WINDOW // 4 // dimension))
        ids, paths, ranks, numbers = _sorted_ids(batches, groups)
        words = {name: _DictionaryColumn(len(ids)) for name in REPETITIVE}
        written_at = np.empty(len(ids), np.int64)  # microseconds
        at = np.empty(len(ids) if into else 0, np.uint64)
        parts: list[RowsPart] = []
        for number, group in enumerate(groups):
            positions = None if numbers is None else np.sort(ranks[numbers == number])
            size = len(ids) if positions is None else len(positions)
            if size or len(groups) == 1:
                vectors = (
                    _mapped(vectors_file(into, len(parts)), size, group.dimension)
                    if into
                    else np.empty((size, group.dimension), np.float32)
                )
                parts.append(RowsPart(group=group, positions=positions, vectors=vectors))
        count = 0
        for batch in batches(["id", *REPETITIVE, "written_at", "vector", *([ADDRESS] if into else [])]):
            here = ranks[count : count + batch.num_rows]
            if not ids.take(pa.array(here)).equals(batch["id"]):
                break
            for part in parts:
                part.put(here, vectors_of(batch))
            written_at[here] = batch["written_at"].cast(pa.int64()).to_numpy()
            if into:
                at[here] = batch[ADDRESS].to_numpy()
            for name, column in words.items():
                column.put(here, batch[name])
            count += batch.num_rows
        if count != len(ids):
            raise ArtifactError(f"table {table}: its rows came in another order when read again; load it again")
        facts = {
            "id": ids,
            "path": paths,
            **{name: column.encoded() for name, column in words.items()},
            "written_at": pa.array(written_at).cast(_TIME),
            **({ADDRESS: pa.array(at)} if into else {}),
        }
        return cls(facts=pa.record_batch(facts), parts=tuple(parts))

    def texts(self, names: Sequence[str], positions: npt.NDArray[np.intp] | None = None) -> pa.RecordBatch:
        """Columns of words, decoded.

        Args:
            names: id, path, or of REPETITIVE.
            positions: Of the rows; None for all.
        """
        at = pa.array(np.arange(self.facts.num_rows) if positions is None else positions)
        found: dict[str, pa.Array] = {}
        for name in names:
            column = self.facts[name]
            if name in REPETITIVE:  # for the few rows of an answer much faster than Arrow's cast
                found[name] = column.dictionary.take(column.indices.take(at))
            else:
                found[name] = column.take(at)
        return pa.record_batch(found)


class _DictionaryColumn:
    """One column of N words, as numbers of the distinct ones, which are filled in batches.

    Args:
        count: N.
    """

    def __init__(self, count: int) -> None:
        self._numbers = np.empty(count, np.int32)
        self._known: dict[str, int] = {}

    def put(self, here: npt.NDArray[np.intp], words: pa.Array) -> None:
        """Set the words at some positions; a null is the empty word."""
        part = words.fill_null("").dictionary_encode()
        known = self._known
        numbers = [known.setdefault(word, len(known)) for word in part.dictionary.to_pylist()]
        self._numbers[here] = np.array(numbers, np.int32)[part.indices.to_numpy()]

    def encoded(self) -> pa.DictionaryArray:
        """The column, its numbers as narrow as they may be."""
        narrow = np.min_scalar_type(-max(1, len(self._known)))
        return pa.DictionaryArray.from_arrays(
            pa.array(self._numbers.astype(narrow)), pa.array(list(self._known), pa.string())
        )


def vectors_file(folder: Path, number: int) -> Path:
    """Of the vectors of a part."""
    return folder / f"{number}.npy"


def _mapped(path: Path, rows: int, dimension: int) -> Vectors:
    """A new .npy file of vectors, all of whose room is taken: on a full disk, writing to a map ends the process."""
    vectors: Vectors = npy.open_memmap(path, "w+", np.float32, (rows, dimension))
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return vectors


def _sorted_ids(
    batches: Batches, groups: Sequence[SearchGroup]
) -> tuple[pa.StringArray, pa.StringArray, npt.NDArray[np.intp], npt.NDArray[np.int32] | None]:
    """Ids and paths (N,) by ascending id; of each row, as the table has them, its position and its group's number.

    Positions are (N,), numbers too; they are None where there is one group.
    """
    grouped = len(groups) > 1
    number = {provenance: at for at, group in enumerate(groups) for provenance in group.provenances}
    ids, paths, numbers = [], [], [np.empty(0, np.int32)]
    for batch in batches(["id", "path", *(("embedded_by", "adapters") if grouped else ())]):
        ids.append(batch["id"])
        paths.append(batch["path"])
        if grouped:
            models, chains = (batch[name].dictionary_encode() for name in ("embedded_by", "adapters"))
            names = models.dictionary.to_pylist(), chains.dictionary.to_pylist()
            of_kind = np.array([number.get(Provenance(*kind), 0) for kind in product(*names)], np.int32)
            kinds = models.indices.to_numpy() * len(names[1]) + chains.indices.to_numpy()
            numbers.append(of_kind[kinds])
    found = pa.chunked_array(ids, pa.string())
    order = pc.sort_indices(found)
    ranks = np.empty(len(order), np.intp)
    ranks[order.to_numpy()] = np.arange(len(order))
    ascending: pa.StringArray = found.take(order).combine_chunks()
    sorted_paths: pa.StringArray = pa.chunked_array(paths, pa.string()).take(order).combine_chunks()
    return ascending, sorted_paths, ranks, np.concatenate(numbers) if grouped else None
