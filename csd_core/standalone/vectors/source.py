"""Vectors that lie somewhere, read in batches of (ids, vectors): what a file, an index or a store has in common.

n rows of a batch, N of all, D dimensions.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from csd_core.data.tables import Strings
from csd_core.system.errors import ArtifactError, message_of

Floats = npt.NDArray[np.float32]

VECTOR = "vector"
"""Column that holds the vectors where a table has several columns of numbers."""

FEW = 100
"""Rows that are read to learn D."""

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
        if array.ndim != 2 or array.dtype.kind not in "fiu":  # noqa: PLR2004 - N, D
            raise ArtifactError(f"{path}: holds {array.dtype} {array.shape}; vectors are real numbers (N, D)")
        listed = path.with_suffix(".ids.txt")
        if listed.is_file():
            ids = _listed(listed)
        return cls(ids=_row_by_row(ids, len(array), path, listed.name), array=array)

    @property
    def dimension(self) -> int:
        return int(self.array.shape[1])

    @property
    def rows(self) -> int:
        return len(self.array)

    def batches(self, size: int) -> Iterator[tuple[Strings, Floats]]:
        for start in range(0, self.rows, size):
            with np.errstate(over="ignore"):  # what float32 cannot hold is not finite, and told as that
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
                dimension = _dimension(path, (batch.column(0) for batch in file.iter_batches(FEW, columns=[column])))
        except (pa.ArrowException, OSError) as error:
            raise ArtifactError(f"{path}: not a whole parquet file ({message_of(error)}); write it again") from None
        return cls(path=path, id_column=id_column, vector_column=column, dimension=dimension, rows=rows)

    def batches(self, size: int) -> Iterator[tuple[Strings, Floats]]:
        try:
            with pq.ParquetFile(self.path) as file:
                for batch in file.iter_batches(size, columns=[self.id_column, self.vector_column]):
                    yield _columns(self, batch)
        except (pa.ArrowException, OSError) as error:
            raise ArtifactError(f"{self.path}: cannot be read ({message_of(error)}); write it again") from None


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
            batches = table.search().select([column]).to_batches(FEW)
            dimension = _dimension(path, (batch.column(column) for batch in batches))
        except (ValueError, RuntimeError, OSError) as error:
            raise ArtifactError(f"{path}: LanceDB cannot open it ({message_of(error)}); name a table") from None
        return cls(path=path, table=table, id_column=id_column, vector_column=column, dimension=dimension)

    @property
    def rows(self) -> int:
        return int(self.table.count_rows())

    def batches(self, size: int) -> Iterator[tuple[Strings, Floats]]:
        for batch in self.table.search().select([self.id_column, self.vector_column]).to_batches(size):
            yield _columns(self, batch)


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
            reason = message_of(error).rpartition(": ")[2]  # without the function and the place in FAISS's source
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


def _listed(file: Path) -> Strings:
    """Return the lines of a file of ids; an id may hold any character but the end of a line."""
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")  # reading makes every end of a line this one
    except UnicodeDecodeError as error:
        raise ArtifactError(f"{file}: is not UTF-8 (byte {error.start}); write it so, one id a line") from None
    return np.array(lines[:-1] if lines[-1] == "" else lines, np.str_)


def _row_by_row(ids: Strings | None, rows: int, path: Path, where: str) -> Strings:
    if ids is None:
        raise ArtifactError(f"{path}: its {rows:,} vectors have no ids; put them in {where}")
    if len(ids) != rows:
        raise ArtifactError(f"{path}: has {rows:,} vectors for {len(ids):,} ids; put one id for each in {where}")
    return ids


def _vector_column(path: Path, schema: pa.Schema, id_column: str) -> str:
    """Return the column of vectors: the only one of lists of numbers, or the one called `vector`."""
    if schema.names.count(id_column) != 1:
        what = "several columns" if id_column in schema.names else "no column"
        raise ArtifactError(f"{path}: has {what} {id_column}; its columns are {', '.join(schema.names)}")
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


def _dimension(path: Path, columns: Iterable[pa.Array]) -> int:
    """Return D of the first vectors that are not null.

    Raises:
        ArtifactError: if there are none.
    """
    for column in columns:
        some = column.drop_null()
        if len(some):
            return len(some[0])
    raise ArtifactError(f"{path}: has no rows with a vector; write the vectors again")


def _columns(table: "_Parquet | _LanceTable", batch: pa.RecordBatch) -> tuple[Strings, Floats]:
    """Return ids and vectors of the rows that have both."""
    ids, vectors = batch.column(table.id_column), batch.column(table.vector_column)
    has = pc.and_(ids.is_valid(), vectors.is_valid())
    ids, vectors = ids.filter(has), vectors.filter(has)
    try:
        names = np.array(ids.cast(pa.string()).to_pylist(), np.str_)
    except pa.ArrowException:
        raise ArtifactError(
            f"{table.path}: its column {table.id_column} is {ids.type} that is no text; write ids as text or numbers"
        ) from None
    return names, _matrix(table.path, vectors, table.dimension)


def _matrix(path: Path, column: pa.Array, dimension: int) -> Floats:
    """Return (n, D) float32 of a column of lists, none of which is null."""
    values, lengths = column.flatten(), pc.list_value_length(column)
    if values.null_count or not pc.all(pc.equal(lengths, dimension)).as_py():
        raise ArtifactError(
            f"{path}: its vectors are of several lengths, or have gaps; give each row one of equal length"
        )
    with np.errstate(over="ignore"):  # what float32 cannot hold is not finite, and told as that
        return np.asarray(values.to_numpy(zero_copy_only=False), np.float32).reshape(len(column), dimension)
