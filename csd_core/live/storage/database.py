"""The Lance tables of one database, by the names of their folders: opened, made, written and indexed."""

from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

import lancedb
import pyarrow as pa
from lancedb.index import BTree
from lancedb.table import Table

from csd_core.live.storage.lance import lance_errors, true_cause
from csd_core.system.errors import ArtifactError

INDEX_CACHE, METADATA_CACHE = 1 << 30, 32 << 20
"""Bytes of LanceDB's caches; without a limit it remembers the list of files of every commit."""
SCANNED_ROWS = 10_000
"""Rows of a table in which an id is found as fast without an index."""


class Database:
    """The Lance tables of one database.

    Attributes:
        uri: Where it lies.
        connection: LanceDB's own.
    """

    def __init__(self, uri: str, *, system: tuple[str, ...]) -> None:
        """Connect; nothing is read or written yet.

        Args:
            uri: A folder, or an object store.
            system: Names of its tables that are no gallery.
        """
        self.uri = uri
        self._system = frozenset(system)
        with lance_errors(uri):
            session = lancedb.Session(index_cache_size_bytes=INDEX_CACHE, metadata_cache_size_bytes=METADATA_CACHE)
            self.connection = lancedb.connect(_address(uri), session=session)

    def half_made(self) -> tuple[str, ...]:
        """System tables whose making was interrupted: the next write makes them again."""
        return tuple(name for name in self._physical() if name in self._system and self.opened(name) is None)

    def opened(self, name: str) -> Table | None:
        """A table that is no gallery; None if it was never made, or a process was killed while it made it.

        LanceDB makes a table's folder first and its first version last, so a folder without a version is no table.

        Raises:
            ArtifactError: if it has rows and lost the versions that lead to them.
        """
        with lance_errors(name):
            try:
                return self.connection.open_table(name)
            except ValueError:
                if "://" not in self.uri and any((Path(self.uri) / f"{name}.lance" / "data").glob("*")):
                    raise ArtifactError(
                        f"live gallery {self.uri}: table {name} has rows, but no version leads to them "
                        f"({name}.lance/_versions); restore the gallery from a backup"
                    ) from None
                return None

    def system(self, name: str, schema: pa.Schema) -> Table:
        """A table that is no gallery, made if it is missing or half made; the caller holds the write lock."""
        handle = self.opened(name)
        if handle is None:
            with lance_errors(name):
                handle = self.connection.create_table(name, schema=schema, exist_ok=True)
        return handle

    def system_rows(self, name: str) -> pa.Table | None:
        """All rows of such a table; None if it was never made."""
        handle = self.opened(name)
        with lance_errors(name):
            return None if handle is None else handle.to_arrow()

    def _physical(self) -> list[str]:
        with lance_errors(self.uri):
            names: list[str] = []
            page = self.connection.list_tables()
            names += page.tables
            while page.page_token:
                page = self.connection.list_tables(page_token=page.page_token)
                names += page.tables
        return names

    def _open(self, physical: str, table: str) -> Table:
        with lance_errors(table):
            try:
                return self.connection.open_table(physical)
            except ValueError:
                raise ArtifactError(
                    f"live gallery {self.uri}: the rows of table {table} are gone ({physical}.lance); restore them or "
                    "roll back"
                ) from None

    def at(self, handle: Table, table: str, version: str | int | None) -> Table:
        """An open table at a version or a tag."""
        if version is not None:
            try:
                handle.checkout(version)
            except ValueError:
                tags = ", ".join(sorted(handle.tags.list())) or "none"
                raise ArtifactError(
                    f"live gallery {self.uri}: table {table} has no version {version} (tags: {tags}); publish it again"
                ) from None
        return handle

    def _write(self, physical: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Table:
        with true_cause(batches) as reader, lance_errors(physical):
            return self.connection.create_table(physical, data=pa.RecordBatchReader.from_batches(schema, reader))

    def _index_ids(self, handle: Table) -> None:
        """Without it each write and each batch of a backfill of a large table would read the ids of all rows."""
        with lance_errors(handle.name):
            if handle.count_rows() > SCANNED_ROWS:
                handle.create_index("id", config=BTree())


def _address(uri: str) -> str:
    """How LanceDB is to reach a gallery.

    A folder is opened as an object store is: what LanceDB 0.40 writes to a plain path may lose the last bytes of a file
    on a full disk and be committed all the same.
    """
    return uri if "://" in uri else f"file-object-store://{quote(str(Path(uri).absolute()))}"
