"""Rows of a table held in memory, in little more room than their vectors take.

N rows, D dimensions. The columns but for the ids repeat a few words, so they are kept as numbers of words; and a table
is read a window at a time into arrays of the final size, for Arrow's batches hold every column as long as one is used.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from lancedb.table import Table

from csd_core.live.reader import dimension_of
from csd_core.live.rows import Vectors, vectors_of
from csd_core.live.storage.lance import scan, windows
from csd_core.system.errors import ArtifactError

WINDOW = 1 << 22
"""Bytes of vectors read at a time."""
REPETITIVE = ("label", "task", "embedded_by", "space", "origin")
_TIME = pa.timestamp("us", "UTC")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rows:
    """Rows in memory, by ascending id.

    Attributes:
        facts: N rows of id, written_at and the columns of REPETITIVE, which are dictionary-encoded.
        vectors: (N, D) float32 of unit length.
    """

    facts: pa.RecordBatch
    vectors: Vectors

    @classmethod
    def read(cls, handle: Table, table: str) -> "Rows":
        """All rows of an open table, which is read twice.

        Args:
            handle: Whose version is checked out.
            table: Its name.

        Raises:
            ArtifactError: if the rows do not come in the same order twice.
        """
        ids, ranks = _sorted_ids(handle)
        words = {name: _DictionaryColumn(len(ids)) for name in REPETITIVE}
        written_at = np.empty(len(ids), np.int64)  # microseconds
        dimension = dimension_of(handle)
        vectors = np.empty((len(ids), dimension), np.float32)
        count = 0
        columns = ["id", *REPETITIVE, "written_at", "vector"]
        for batch in windows(handle, columns, rows=max(1, WINDOW // vectors.itemsize // dimension)):
            here = ranks[count : count + batch.num_rows]
            if not ids.take(pa.array(here)).equals(batch["id"]):
                break
            vectors[here] = vectors_of(batch)
            written_at[here] = batch["written_at"].cast(pa.int64()).to_numpy()
            for name, column in words.items():
                column.put(here, batch[name])
            count += batch.num_rows
        if count != len(ids):
            raise ArtifactError(f"table {table}: its rows came in another order when read again; load it again")
        facts = {
            "id": ids,
            **{name: column.encoded() for name, column in words.items()},
            "written_at": pa.array(written_at).cast(_TIME),
        }
        return cls(facts=pa.record_batch(facts), vectors=vectors)

    def texts(self, names: Sequence[str], positions: npt.NDArray[np.intp] | None = None) -> pa.RecordBatch:
        """Columns of words, decoded.

        Args:
            names: id, or of REPETITIVE.
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


def spaces_of(handle: Table) -> Counter[str]:
    """How many rows of an open table are in which space."""
    found: Counter[str] = Counter()
    for batch in scan(handle, ["space"]):
        found.update({each["values"]: each["counts"] for each in batch["space"].value_counts().to_pylist()})
    return found


class _DictionaryColumn:
    """One column of N words, as numbers of the distinct ones, which are filled in batches.

    Args:
        count: N.
    """

    def __init__(self, count: int) -> None:
        self._numbers = np.empty(count, np.int32)
        self._known: dict[str, int] = {}

    def put(self, here: npt.NDArray[np.intp], words: pa.Array) -> None:
        """Set the words at some positions."""
        part = words.dictionary_encode()
        known = self._known
        numbers = [known.setdefault(word, len(known)) for word in part.dictionary.to_pylist()]
        self._numbers[here] = np.array(numbers, np.int32)[part.indices.to_numpy()]

    def encoded(self) -> pa.DictionaryArray:
        """The column, its numbers as narrow as they may be."""
        narrow = np.min_scalar_type(-max(1, len(self._known)))
        return pa.DictionaryArray.from_arrays(
            pa.array(self._numbers.astype(narrow)), pa.array(list(self._known), pa.string())
        )


def _sorted_ids(handle: Table) -> tuple[pa.StringArray, npt.NDArray[np.intp]]:
    """Ids (N,) ascending, and of each row, as the table has them, its position among them (N,)."""
    found = pa.chunked_array([batch["id"] for batch in scan(handle, ["id"])], pa.string())
    order = pc.sort_indices(found)
    ranks = np.empty(len(order), np.intp)
    ranks[order.to_numpy()] = np.arange(len(order))
    ids: pa.StringArray = found.take(order).combine_chunks()
    return ids, ranks
