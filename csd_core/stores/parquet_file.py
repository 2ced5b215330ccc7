"""A Parquet file with a column of ids and one of vectors."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from csd_core.stores.file import FileStore
from csd_core.stores.protocol import BATCH_ROWS, Floats, Rows, Strings, stacked
from csd_core.system.errors import ArtifactError, message_of


class ParquetFile(FileStore):
    """Rows of a Parquet file; its other columns stay as they are.

    Attributes:
        identity: Column of ids.
        vector: Column of vectors: lists of numbers, of fixed size or not.
    """

    def __init__(self, path: Path, *, name: str, id: str, vector: str) -> None:  # noqa: A002 - as in its address
        super().__init__(path, name=name)
        self.identity, self.vector = id, vector
        with self._told():
            schema = pq.read_schema(path)
        for column in (id, vector):
            if schema.names.count(column) != 1:
                what = "several columns" if column in schema.names else "no column"
                raise ArtifactError(f"{name}: has {what} {column}; it has {', '.join(schema.names)}")
        if not holds_vectors(schema.field(vector).type):
            raise ArtifactError(f"{name}: column {vector} is {schema.field(vector).type}, not lists of numbers")

    def count(self) -> int:
        """Return the number of rows."""
        return int(pq.read_metadata(self.path).num_rows)

    def rows(self) -> Iterator[Rows]:
        """Yield the rows that have a vector."""
        with self._told(), pq.ParquetFile(self.path) as file:
            for batch in file.iter_batches(BATCH_ROWS, columns=[self.identity, self.vector]):
                some = batch.filter(pc.is_valid(batch.column(self.vector)))
                if some.num_rows:
                    yield rows_of(some.column(self.identity), some.column(self.vector), self.name)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, OSError) as error:
            raise ArtifactError(
                f"{self.name}: is not a whole Parquet file ({message_of(error)}); write it again"
            ) from None

    def assemble(self, target: Path, ids: Strings, vectors: Floats) -> None:
        """Write the file again with other vectors; a row without one has null."""
        with pq.ParquetFile(self.path) as file:
            before = file.schema_arrow
            number, width = before.get_field_index(self.vector), vectors.shape[1]
            fixed = pa.types.is_fixed_size_list(before.field(number).type)
            kind = pa.list_(pa.float32(), width) if fixed else pa.list_(pa.float32())
            schema = before.set(number, pa.field(self.vector, kind)).remove_metadata()
            with pq.ParquetWriter(target, schema) as writer:
                for batch in file.iter_batches(BATCH_ROWS):
                    names = np.array([str(each) for each in batch.column(self.identity).to_pylist()], np.str_)
                    at = np.searchsorted(ids, names).clip(max=max(0, len(ids) - 1))
                    found = ids[at] == names if len(ids) else np.zeros(len(names), np.bool_)
                    lists = [vectors[row] if here else None for row, here in zip(at, found, strict=True)]
                    columns = [*batch.columns]
                    columns[number] = pa.array(lists, kind)
                    writer.write_batch(pa.record_batch(columns, schema=schema))


def holds_vectors(kind: pa.DataType) -> bool:
    """Return whether a column of Arrow holds lists of numbers."""
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return bool(lists and (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)))


def rows_of(ids: pa.Array, vectors: pa.Array, where: str) -> Rows:
    """Return rows of two columns of Arrow, none of which is null."""
    lengths = np.unique(pc.list_value_length(vectors).to_numpy(zero_copy_only=False))
    if len(lengths) == 1:
        flat = vectors.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
        return Rows(np.array([str(each) for each in ids.to_pylist()], np.str_), flat.reshape(len(ids), -1))
    return stacked(ids.to_pylist(), [np.array(each, np.float32) for each in vectors.to_pylist()], where)
