"""Vectors that lie somewhere, read in batches of (ids, vectors): what a file, an index or a store has in common.

n rows of a batch, N of all, D dimensions.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from csd_core.data.tables import Strings
from csd_core.system.errors import ArtifactError

Floats = npt.NDArray[np.float32]

VECTOR = "vector"
"""Column that holds the vectors where a table has several columns of numbers."""

FORMATS = ".npy (ids in .ids.txt), .parquet, .lance, .faiss or .index"
"""What `open_vectors` reads."""


class VectorSource(Protocol):
    """Rows of (id, vector); they need not be of unit length."""

    @property
    def dimension(self) -> int:
        """D."""

    @property
    def rows(self) -> int:
        """N."""

    def batches(self, size: int) -> Iterator[tuple[Strings, Floats]]:
        """Yield (n,) ids and (n, D) float32 vectors, n at most `size`, until all rows were yielded."""


def open_vectors(path: Path, *, id_column: str = "id", ids: Strings | None = None) -> VectorSource:
    """Open vectors by the ending of their name.

    Args:
        path: The file; for .lance the folder of a LanceDB table.
        id_column: Column of ids, of a table.
        ids: (N,) for an .npy or a FAISS index without ids of its own: row by row the same items.

    Raises:
        ArtifactError: if it is missing, damaged or of another format, or has no ids.
    """
    if not path.exists():
        raise ArtifactError(f"{path}: there is no such file of vectors; give {FORMATS}")
    match path.suffix.lower():
        case ".npy":
            return _Array.open(path, ids)
        case ".parquet":
            return _Parquet.open(path, id_column)
        case ".lance":
            return _LanceTable.open(path, id_column)
        case ".faiss" | ".index":
            return _FaissIndex.open(path, ids)
        case ending:
            raise ArtifactError(
                f"{path}: vectors cannot be read from {ending or 'a name without ending'}; give {FORMATS}"
            )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Array:
    """An .npy file of (N, D) numbers, memory-mapped."""

    ids: Strings
    array: npt.NDArray[Any]

    @classmethod
    def open(cls, path: Path, ids: Strings | None) -> "_Array":
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise ArtifactError(f"{path}: not a whole .npy file ({error}); write it with numpy.save") from None
        if array.ndim != 2 or not np.issubdtype(array.dtype, np.number):  # noqa: PLR2004 - N, D
            raise ArtifactError(f"{path}: holds {array.dtype} {array.shape}; vectors are numbers (N, D)")
        listed = path.with_suffix(".ids.txt")
        if listed.is_file():
            ids = np.array(listed.read_text(encoding="utf-8").splitlines(), np.str_)
        return cls(ids=_row_by_row(ids, len(array), path, listed.name), array=array)

    @property
    def dimension(self) -> int:
        return int(self.array.shape[1])

    @property
    def rows(self) -> int:
        return len(self.array)

    def batches(self, size: int) -> Iterator[tuple[Strings, Floats]]:
        for start in range(0, self.rows, size):
            yield self.ids[start : start + size], np.asarray(self.array[start : start + size], np.float32)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Parquet:
    """A parquet file with a column of ids and one of lists of numbers."""

    path: Path
    id_column: str
    vector_column: str
    dimension: int
    rows: int

    @classmethod
    def open(cls, path: Path, id_column: str) -> "_Parquet":
        try:
            with pq.ParquetFile(path) as file:
                column = _vector_column(path, file.schema_arrow, id_column)
                rows = file.metadata.num_rows
                first = next(file.iter_batches(1, columns=[column]), None)
        except (pa.ArrowException, OSError) as error:
            raise ArtifactError(f"{path}: not a whole parquet file ({error}); write it again") from None
        if first is None:
            raise ArtifactError(f"{path}: has no rows; write the vectors again")
        dimension = _matrix(path, first.column(0)).shape[1]
        return cls(path=path, id_column=id_column, vector_column=column, dimension=dimension, rows=rows)

    def batches(self, size: int) -> Iterator[tuple[Strings, Floats]]:
        with pq.ParquetFile(self.path) as file:
            for batch in file.iter_batches(size, columns=[self.id_column, self.vector_column]):
                yield _columns(self.path, batch, self.id_column, self.vector_column)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _LanceTable:
    """A table of LanceDB: DATABASE/NAME.lance."""

    path: Path
    table: Any
    id_column: str
    vector_column: str
    dimension: int

    @classmethod
    def open(cls, path: Path, id_column: str) -> "_LanceTable":
        import lancedb  # noqa: PLC0415 - takes a second to import

        try:
            table = lancedb.connect(path.absolute().parent).open_table(path.stem)
            column = _vector_column(path, table.schema, id_column)
            first = table.search().select([column]).limit(1).to_arrow()
        except (ValueError, RuntimeError, OSError) as error:
            raise ArtifactError(
                f"{path}: LanceDB cannot open it ({str(error).splitlines()[0]}); name a table"
            ) from None
        if not len(first):
            raise ArtifactError(f"{path}: has no rows; write the vectors again")
        dimension = _matrix(path, first.column(column).combine_chunks()).shape[1]
        return cls(path=path, table=table, id_column=id_column, vector_column=column, dimension=dimension)

    @property
    def rows(self) -> int:
        return int(self.table.count_rows())

    def batches(self, size: int) -> Iterator[tuple[Strings, Floats]]:
        for batch in self.table.search().select([self.id_column, self.vector_column]).to_batches(size):
            yield _columns(self.path, batch, self.id_column, self.vector_column)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _FaissIndex:
    """A FAISS index that can reconstruct its vectors; ids are those of an IndexIDMap, or given."""

    ids: Strings
    index: Any
    owner: Any  # whose memory the index is in

    @classmethod
    def open(cls, path: Path, ids: Strings | None) -> "_FaissIndex":
        import faiss  # noqa: PLC0415 - takes a second to import

        try:
            index = owner = faiss.read_index(str(path))
            if isinstance(owner, faiss.IndexIDMap):
                ids = faiss.vector_to_array(owner.id_map).astype(np.str_)
                index = faiss.downcast_index(owner.index)
            if isinstance(index, faiss.IndexIVF):
                index.make_direct_map()
            if index.ntotal:
                index.reconstruct_n(0, 1)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise ArtifactError(f"{path}: FAISS cannot give its vectors ({reason}); export them to .npy") from None
        return cls(ids=_row_by_row(ids, index.ntotal, path, "an IndexIDMap"), index=index, owner=owner)

    @property
    def dimension(self) -> int:
        return int(self.index.d)

    @property
    def rows(self) -> int:
        return int(self.index.ntotal)

    def batches(self, size: int) -> Iterator[tuple[Strings, Floats]]:
        for start in range(0, self.rows, size):
            count = min(size, self.rows - start)
            yield self.ids[start : start + count], self.index.reconstruct_n(start, count)


def _row_by_row(ids: Strings | None, rows: int, path: Path, where: str) -> Strings:
    if ids is None:
        raise ArtifactError(f"{path}: its {rows:,} vectors have no ids; put them in {where}")
    if len(ids) != rows:
        raise ArtifactError(f"{path}: has {rows:,} vectors for {len(ids):,} ids; put one id for each in {where}")
    return ids


def _vector_column(path: Path, schema: pa.Schema, id_column: str) -> str:
    """Return the column of vectors: the only one of lists of numbers, or the one called `vector`."""
    if id_column not in schema.names:
        raise ArtifactError(f"{path}: has no column {id_column}; its columns are {', '.join(schema.names)}")
    lists = [
        field.name
        for field in schema
        if (
            pa.types.is_list(field.type)
            or pa.types.is_large_list(field.type)
            or pa.types.is_fixed_size_list(field.type)
        )
        and pa.types.is_floating(field.type.value_type)
    ]
    if len(lists) != 1 and VECTOR not in lists:
        raise ArtifactError(
            f"{path}: {len(lists)} columns hold lists of floats ({', '.join(lists) or 'none'}); call that of the "
            f"vectors {VECTOR}"
        )
    return VECTOR if VECTOR in lists else lists[0]


def _columns(path: Path, batch: pa.RecordBatch, ids: str, vectors: str) -> tuple[Strings, Floats]:
    return np.array(batch.column(ids).cast(pa.string()).to_pylist(), np.str_), _matrix(path, batch.column(vectors))


def _matrix(path: Path, column: pa.Array) -> Floats:
    """Return (n, D) float32 of a column of lists of equal length."""
    values = column.flatten()
    if column.null_count or values.null_count or not len(column) or len(values) % len(column):
        raise ArtifactError(f"{path}: its vectors are missing or of several lengths; give each row one of equal length")
    if not pa.types.is_fixed_size_list(column.type) and len(set(column.value_lengths().to_pylist())) > 1:
        raise ArtifactError(f"{path}: its vectors are of several lengths; give each row one of equal length")
    return np.asarray(values.to_numpy(zero_copy_only=False), np.float32).reshape(len(column), -1)
