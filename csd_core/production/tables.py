"""LanceDB tables behind names that switch atomically.

A table's rows lie in a Lance table of its own, under a name nobody else has (`NAME.<random>`); the small Lance table
`catalogue` says which one it is now. So a table appears, is replaced or is rewritten by one commit to the catalogue:
readers see the former or the new one, never part of it, and a process killed before the commit leaves only a Lance
table that nobody knows, which `sweep` removes.

Rewriting is also how old versions go. LanceDB's own clean-up refuses a table that has a tag on an old version, and
where it runs it leaves data files behind that no version names; a table that was copied, tag by tag, and whose old
folder was dropped holds nothing but what its tags and its latest version show.
"""

import re
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar
from uuid import uuid4

import lancedb
import pyarrow as pa
from lancedb.expr import col
from lancedb.index import IvfFlat
from lancedb.table import Table

from csd_core.errors import ArtifactError, ParamsError
from csd_core.production.lance import lance_errors, leaving_out, only, scan, true_cause
from csd_core.production.locks import Lock
from csd_core.production.rows import fingerprints

CATALOGUE = "catalogue"
_ENTRY = pa.schema(
    [
        pa.field("table", pa.string(), nullable=False),
        pa.field("physical", pa.string(), nullable=False),
        pa.field("partitions", pa.int32(), nullable=False),
    ]
)
Result = TypeVar("Result")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")


class Entry(NamedTuple):
    """What the catalogue says of a table."""

    physical: str
    partitions: int
    """Cells of its index; 0 without one."""


class Tables:
    """The tables of one LanceDB database.

    Attributes:
        uri: Where it lies.
        writing: The lock of those who change rows, or which Lance table is behind a name.
        building: The lock of those who write a whole table; taken before `writing`, never after it.
    """

    def __init__(self, uri: str, *, writing: Lock, building: Lock, system: tuple[str, ...]) -> None:
        self.uri = uri
        self.writing = writing
        self.building = building
        self._system = {CATALOGUE, *system}
        with lance_errors(uri):
            self.connection = lancedb.connect(uri)

    def names(self) -> tuple[str, ...]:
        """All tables, ascending."""
        return tuple(sorted(self._entries()))

    def entry(self, table: str) -> Entry:
        """Where a table's rows lie.

        Raises:
            ArtifactError: if there is no such table.
        """
        entries = self._entries()
        if table not in entries:
            known = ", ".join(sorted(entries)) or "none"
            raise ArtifactError(f"live gallery {self.uri}: there is no table {table} (it has: {known}); publish it")
        return entries[table]

    def open(self, table: str, version: str | int | None = None) -> Table:
        """A table for reading or writing; at a version or a tag for reading only.

        Raises:
            ArtifactError: if there is no such table or version.
        """
        return self.at(self._open(self.entry(table).physical, table), table, version)

    def read(self, table: str, version: str | int | None, call: Callable[[Table], Result]) -> Result:
        """Call with the open table; once more if the table was replaced meanwhile and its former files are gone."""
        while True:
            entry = self.entry(table)
            try:
                with lance_errors(table):
                    return call(self.at(self._open(entry.physical, table), table, version))
            except ArtifactError:
                if self.entry(table).physical == entry.physical:
                    raise

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

    def create(self, table: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch], *, partitions: int) -> None:
        """Write a whole table, and replace one of the same name.

        Args:
            table: Its name: letters, digits, hyphens and underscores.
            schema: Of its rows.
            batches: Its rows, read once.
            partitions: Cells of its index; 0 for none.
        """
        if not _NAME.fullmatch(table) or table in self._system:
            raise ParamsError(f"table {table!r}: not a name; take letters, digits, hyphens and underscores")
        with self.building.held():
            self.sweep()
            physical = f"{table}.{uuid4().hex[:12]}"
            handle = self._write(physical, schema, batches)
            self._index(handle, partitions)
            with self.writing.held():
                self._commit(table, Entry(physical, partitions if handle.count_rows() else 0))
            self.sweep()

    def rewrite(self, table: str, *, without: frozenset[str] = frozenset()) -> None:
        """Copy a table, tag by tag, leave some ids out, and drop what it was.

        Writers wait meanwhile; readers who hold the former Lance table open must open it again.
        """
        with self.building.held(), self.writing.held():
            self.sweep()
            entry = self.entry(table)
            old = self._open(entry.physical, table)
            latest = old.version
            tagged = {name: int(facts["version"]) for name, facts in old.tags.list().items()}
            versions = sorted({latest, *tagged.values()})
            physical = f"{table}.{uuid4().hex[:12]}"
            first = self.at(self._open(entry.physical, table), table, versions[0])
            new = self._write(physical, old.schema, leaving_out(scan(first), without))
            self._index(new, entry.partitions)
            before = fingerprints(scan(first), whole=True)
            copied = {versions[0]: new.version}
            for version in versions[1:]:
                source = self.at(self._open(entry.physical, table), table, version)
                after = fingerprints(scan(source), whole=True)
                changed = {identity for identity, print_ in after.items() if before.get(identity) != print_}
                remove(new, (before.keys() - after.keys()) - without)
                if changed - without:
                    put(new, old.schema, only(scan(source), changed - without))
                before = after
                copied[version] = new.version
            for name, version in tagged.items():
                new.tags.create(name, copied[version])
            self._commit(table, Entry(physical, entry.partitions))
            self.sweep()

    def index(self, table: str, *, partitions: int) -> None:
        """Build the index anew, over all rows of the latest version."""
        with self.writing.held():
            entry = self.entry(table)
            handle = self._open(entry.physical, table)
            self._index(handle, partitions)
            self._commit(table, Entry(entry.physical, partitions if handle.count_rows() else 0))

    def drop(self, table: str) -> None:
        """Remove a table with all its versions."""
        with self.building.held():
            with self.writing.held():
                self.entry(table)
                remove(self._open(CATALOGUE, CATALOGUE), {table}, column="table")
            self.sweep()

    def sweep(self) -> tuple[str, ...]:
        """Drop the Lance tables that no name leads to: former ones, and what killed processes left."""
        with self.building.held(), lance_errors(self.uri):
            known = self._system | {entry.physical for entry in self._entries().values()}
            orphans = tuple(name for name in self._physical() if name not in known)
            for name in orphans:
                self.connection.drop_table(name)
        return orphans

    def prune(self, table: str, *, older_than: timedelta) -> None:
        """Merge the small files of a table without tags (the catalogue is one) and drop its older versions."""
        if table in self._physical():
            with lance_errors(table):
                self._open(table, table).optimize(cleanup_older_than=older_than)

    def system(self, name: str, schema: pa.Schema) -> Table:
        """A table that is no gallery, made if it is missing; the caller holds the write lock."""
        if name not in self._physical():
            with lance_errors(name):
                self.connection.create_table(name, schema=schema, exist_ok=True)
        return self._open(name, name)

    def system_rows(self, name: str) -> pa.Table | None:
        """All rows of such a table; None if it was never made."""
        if name not in self._physical():
            return None
        handle = self._open(name, name)
        return pa.Table.from_batches(scan(handle), handle.schema)

    def _physical(self) -> list[str]:
        with lance_errors(self.uri):
            names: list[str] = []
            page = self.connection.list_tables()
            names += page.tables
            while page.page_token:
                page = self.connection.list_tables(page_token=page.page_token)
                names += page.tables
        return names

    def _entries(self) -> dict[str, Entry]:
        rows = self.system_rows(CATALOGUE)
        if rows is None:
            return {}
        return {row["table"]: Entry(row["physical"], row["partitions"]) for row in rows.to_pylist()}

    def _commit(self, table: str, entry: Entry) -> None:
        row = pa.table({"table": [table], "physical": [entry.physical], "partitions": [entry.partitions]}, _ENTRY)
        put(self.system(CATALOGUE, _ENTRY), _ENTRY, row.to_batches(), on="table")

    def _open(self, physical: str, table: str) -> Table:
        with lance_errors(table):
            try:
                return self.connection.open_table(physical)
            except ValueError:
                raise ArtifactError(
                    f"live gallery {self.uri}: the rows of table {table} are gone ({physical}.lance); restore them or "
                    "roll back"
                ) from None

    def _write(self, physical: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Table:
        with true_cause(batches) as reader, lance_errors(physical):
            return self.connection.create_table(physical, data=pa.RecordBatchReader.from_batches(schema, reader))

    def _index(self, handle: Table, partitions: int) -> None:
        if partitions and handle.count_rows():
            with lance_errors(handle.name):
                handle.create_index("vector", config=IvfFlat(distance_type="cosine", num_partitions=partitions))


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
