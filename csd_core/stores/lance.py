"""A table of LanceDB in a folder: a second column beside the first; two renames in one commit switch them.

vector_csd_KEY      second vectors, while the upgrade is not active
vector_before_KEY   the vectors before it, while it is active
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import lancedb
import pyarrow as pa
from lancedb.table import Table

from csd_core.stores.arrow_columns import rows_of, vector_column
from csd_core.stores.protocol import BATCH_ROWS, Held, Rows, Strings
from csd_core.system.errors import ArtifactError, message_of
from csd_core.system.locks import Lock


class LanceTable:
    """Rows of a LanceDB table.

    Attributes:
        name: For messages.
        identity: Column of ids.
        vector: Column of the active vectors.
    """

    def __init__(self, folder: Path, *, name: str, table: str, id: str, vector: str | None) -> None:  # noqa: A002
        if not folder.is_dir():
            raise ArtifactError(f"{name}: there is no such folder")
        self.name, self.identity = name, id
        self._lock = folder / f".{table}.csd.lock"
        with self._told():
            # as an object store: on a full disk a plain path may lose the last bytes of a file that is committed
            self._connection = lancedb.connect(f"file-object-store://{quote(str(folder.absolute()))}")
        self._table = table
        self.vector = vector_column(self._open().schema, id=id, vector=vector, name=name)

    def alone(self) -> AbstractContextManager[None]:
        """Keep other upgrades on this machine out."""
        return Lock(self._lock, what=self.name).held(wait=0)

    def count(self) -> int:
        """Return the number of rows."""
        with self._told():
            return int(self._open().count_rows())

    def rows(self) -> Iterator[Rows]:
        """Yield the rows that have a vector, as of now."""
        return self._scan(self.vector)

    def held(self) -> Held | None:
        """Return the upgrade whose column is there."""
        for column in self._open().schema.names:
            for mark, active in ((f"{self.vector}_csd_", False), (f"{self.vector}_before_", True)):
                if column.startswith(mark):
                    return Held(column.removeprefix(mark), active)
        return None

    def begin(self, key: str, dimension: int) -> None:
        """Add a column of nulls."""
        table = self._open()
        if self._second(key) not in table.schema.names:
            with self._told():
                table.add_columns(pa.schema([pa.field(self._second(key), pa.list_(pa.float32(), dimension))]))

    def write(self, key: str, rows: Rows) -> None:
        """Merge a batch by id in one commit."""
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(rows.vectors.ravel()), rows.vectors.shape[1])
        self._merge(key, rows.ids, vectors)

    def beside(self, key: str) -> Iterator[Rows]:
        """Yield the second column where it is not null."""
        return self._scan(self._second(key))

    def discard(self, key: str, ids: Strings) -> None:
        """Merge nulls by id in one commit."""
        vectors = pa.nulls(len(ids), self._open().schema.field(self._second(key)).type)
        self._merge(key, ids, vectors, on_bad_vectors="null")

    def switch(self, key: str) -> None:
        """Rename both columns in one commit."""
        self._rename((self.vector, self._before(key)), (self._second(key), self.vector))

    def undo(self, key: str) -> None:
        """Rename both columns back in one commit."""
        self._rename((self.vector, self._second(key)), (self._before(key), self.vector))

    def clean(self, key: str) -> None:
        """Drop the column that is not active; an older version of the table still has it until LanceDB cleans up."""
        table = self._open()
        with self._told():
            table.drop_columns([each for each in (self._second(key), self._before(key)) if each in table.schema.names])

    def close(self) -> None:
        """Nothing is held open between calls."""

    def _second(self, key: str) -> str:
        return f"{self.vector}_csd_{key}"

    def _before(self, key: str) -> str:
        return f"{self.vector}_before_{key}"

    def _merge(self, key: str, ids: Strings, vectors: pa.Array, *, on_bad_vectors: str = "error") -> None:
        table = self._open()
        names = pa.array(ids.tolist()).cast(table.schema.field(self.identity).type)
        with self._told():
            table.merge_insert(self.identity).when_matched_update_all().execute(
                pa.table({self.identity: names, self._second(key): vectors}), on_bad_vectors=on_bad_vectors
            )

    def _rename(self, *renames: tuple[str, str]) -> None:
        with self._told():
            table: Any = self._open()  # its type hints say other than it takes
            table.alter_columns(*({"path": old, "rename": new} for old, new in renames))

    def _scan(self, column: str) -> Iterator[Rows]:
        """Read one version a window at a time: within one query LanceDB reads far ahead of a slower reader."""
        table = self._open()
        with self._told():
            table.checkout(table.version)
            for start in range(0, int(table.count_rows()), BATCH_ROWS):
                query = table.search().select([self.identity, column]).offset(start).limit(BATCH_ROWS)
                found = query.to_arrow().combine_chunks()
                ids, vectors = (found[each].combine_chunks() for each in (self.identity, column))
                some = rows_of(ids, vectors, self.name)
                if len(some.ids):
                    yield some

    def _open(self) -> Table:
        try:
            return self._connection.open_table(self._table)
        except ValueError:
            raise ArtifactError(f"{self.name}: has no table {self._table}") from None

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Make LanceDB's errors, which are RuntimeError and the like, one line."""
        try:
            yield
        except (RuntimeError, OSError, ValueError) as error:
            raise ArtifactError(f"{self.name}: LanceDB says {message_of(error)}") from None
