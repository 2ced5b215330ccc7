"""A Parquet file with a column of ids and one of vectors."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from csd_core.stores.arrow_columns import rows_of, vector_column
from csd_core.stores.file import FileStore
from csd_core.stores.protocol import BATCH_ROWS, Floats, Rows, Strings
from csd_core.system.errors import ArtifactError, message_of


class ParquetFile(FileStore):
    """Rows of a Parquet file; its other columns stay as they are.

    Attributes:
        identity: Column of ids.
        vector: Column of vectors: lists of numbers, of fixed size or not.
    """

    def __init__(self, path: Path, *, name: str, id: str, vector: str | None) -> None:  # noqa: A002 - as in its address
        super().__init__(path, name=name)
        with self._told():
            schema = pq.read_schema(path)
        self.identity, self.vector = id, vector_column(schema, id=id, vector=vector, name=name)

    def count(self) -> int:
        """Return the number of rows."""
        return int(pq.read_metadata(self.path).num_rows)

    def rows(self) -> Iterator[Rows]:
        """Yield the rows that have a vector."""
        with self._told(), pq.ParquetFile(self.path) as file:
            for batch in file.iter_batches(BATCH_ROWS, columns=[self.identity, self.vector]):
                some = rows_of(batch.column(self.identity), batch.column(self.vector), self.name)
                if len(some.ids):
                    yield some

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
