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
from contextlib import suppress
from math import isqrt
from typing import Protocol, TypeVar
from uuid import uuid4

import numpy as np
import pyarrow as pa
from lancedb.table import Table

from csd_core.live.storage.catalogue import CATALOGUE, SCHEMA, Catalogue, Entry, Owner
from csd_core.live.storage.database import Database
from csd_core.live.storage.fingerprints import fingerprints
from csd_core.live.storage.lance import files_of, lance_errors, latest_time, leaving_out, only, put, remove, scan
from csd_core.live.storage.upkeep import is_due, tidy
from csd_core.system.errors import ArtifactError, CsdError, ParamsError
from csd_core.system.locks import Exclusion

Result = TypeVar("Result")
FEW = 128
"""Data files that every table may have; each of them costs every later write something."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")


class Claim(Protocol):
    """Decides who may write."""

    def owner(self, catalogue: Catalogue, uri: str) -> Owner | None:
        """Whose the gallery is from this write on.

        Raises:
            CompatibilityError: if it belongs to another project.
        """

    def is_of_another(self, owner: Owner, uri: str) -> bool:
        """Whether an owner is another project, or the one that this one was copied from."""


class Tables(Database):
    """The tables of one LanceDB database.

    Attributes:
        writing: The lock of those who change rows, or which Lance table is behind a name.
        building: The lock of those who write a whole table; taken before `writing`, never after it.
        claim: Decides who may write; None for anybody.
    """

    def __init__(
        self, uri: str, *, writing: Exclusion, building: Exclusion, system: tuple[str, ...], claim: Claim | None = None
    ) -> None:
        super().__init__(uri, system=(CATALOGUE, *system))
        self.writing = writing
        self.building = building
        self.claim = claim

    def names(self) -> tuple[str, ...]:
        """All tables, ascending."""
        return tuple(sorted(self.catalogue().entries))

    def catalogue(self) -> Catalogue:
        """The catalogue as it is now."""
        return Catalogue.of(self.system_rows(CATALOGUE))

    def entry(self, table: str) -> Entry:
        """Where a table's rows lie.

        Raises:
            ArtifactError: if there is no such table.
        """
        return self._known(self.catalogue(), table)

    def open(self, table: str, version: str | int | None = None) -> Table:
        """A table for reading or writing; at a version or a tag for reading only.

        Raises:
            ArtifactError: if there is no such table or version.
        """
        return self.at(self._open(self.entry(table).physical, table), table, version)

    def open_to_write(self, table: str) -> tuple[Table, np.datetime64]:
        """A table, and the time that no row at any tag was written after; the caller holds the write lock.

        Raises:
            ArtifactError: if there is no such table.
            CompatibilityError: if the gallery is another project's.
        """
        catalogue = self.admitted(table)
        return self._open(self._known(catalogue, table).physical, table), catalogue.newest

    def admitted(self, table: str | None = None) -> Catalogue:
        """The catalogue, if this project may write; a gallery that is nobody's becomes the project's.

        Args:
            table: Without it nothing is to be written, so that a wrong live.uri claims nothing.

        Raises:
            ArtifactError: if there is no such table in a gallery that would become the project's.
            CompatibilityError: if the gallery is another project's.
        """
        catalogue = self.catalogue()
        if self.claim is None:
            return catalogue
        if catalogue.owner is not None and self.claim.owner(catalogue, self.uri) == catalogue.owner:
            return catalogue
        with self.writing.held():  # two that find it without an owner must not both become one
            catalogue = self.catalogue()
            owner = self.claim.owner(catalogue, self.uri)
            if owner != catalogue.owner:
                if table is not None:
                    self._known(catalogue, table)
                times = [self._newest_of(entry) for entry in catalogue.entries.values()] if not catalogue.owner else []
                catalogue = catalogue._replace(owner=owner, newest=max([catalogue.newest, *times]))
                self._put(catalogue.about())
        return catalogue

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

    def create(self, table: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
        """Write a whole table, and replace one of the same name.

        Args:
            table: Its name: letters, digits, hyphens and underscores.
            schema: Of its rows.
            batches: Its rows, read once.
        """
        if not _NAME.fullmatch(table) or table in self._system:
            raise ParamsError(f"table {table!r}: not a name; take letters, digits, hyphens and underscores")
        with self.building.held():
            self.sweep()  # and refuse before anything is written
            physical = f"{table}.{uuid4().hex[:12]}"
            self._index_ids(self._write(physical, schema, batches))
            with self.writing.held():
                self._commit(table, Entry(physical))
            self.sweep()

    def rewrite(self, table: str, *, without: frozenset[str] = frozenset()) -> None:
        """Copy a table, tag by tag, leave some ids out, and drop what it was.

        Writers wait meanwhile; readers who hold the former Lance table open must open it again.
        """
        with self.building.held(), self.writing.held(), lance_errors(table):
            self.sweep()
            entry = self.entry(table)
            old = self._open(entry.physical, table)
            latest, names = old.version, old.schema.names
            tagged = {name: int(facts["version"]) for name, facts in old.tags.list().items()}
            versions = sorted({latest, *tagged.values()})
            physical = f"{table}.{uuid4().hex[:12]}"
            first = self.at(self._open(entry.physical, table), table, versions[0])
            new = self._write(physical, old.schema, leaving_out(scan(first, names), _column(without)))
            self._index_ids(new)
            before = dict(fingerprints(scan(first), whole=True))
            copied = {versions[0]: new.version}
            for version in versions[1:]:
                source = self.at(self._open(entry.physical, table), table, version)
                after = dict(fingerprints(scan(source), whole=True))
                changed = {identity for identity, print_ in after.items() if before.get(identity) != print_}
                remove(new, (before.keys() - after.keys()) - without)
                if changed - without:
                    put(new, old.schema, only(scan(source, names), _column(changed - without)))
                before = after
                copied[version] = new.version
            for name, version in tagged.items():
                new.tags.create(name, copied[version])
            self._commit(table, Entry(physical))
            self.sweep()

    def drop(self, table: str) -> None:
        """Remove a table with all its versions."""
        with self.building.held():
            with self.writing.held():
                self._known(self.admitted(table), table)
                remove(self._open(CATALOGUE, CATALOGUE), {table}, column="table")
            self.sweep()

    def sweep(self) -> tuple[str, ...]:
        """Drop the Lance tables that no name leads to: former ones, and what killed processes left."""
        with self.building.held(), lance_errors(self.uri):
            known = self._system | {entry.physical for entry in self.admitted().entries.values()}
            orphans = tuple(name for name in self._physical() if name not in known)
            for name in orphans:
                self.connection.drop_table(name)
        return orphans

    def shrink(self, table: str, handle: Table) -> None:
        """Write a table anew once many small writes have made each further one slow; the caller holds the write lock.

        What was written is safe already, so nothing that goes wrong here is told. It is left to a later write where
        somebody is building a table.
        """
        if not is_due(handle):
            return
        with suppress(CsdError, OSError):
            if files_of(handle) > max(FEW, 2 * isqrt(handle.count_rows())):
                with self.building.held(wait=0):
                    self.rewrite(table)

    def move_on(self, newest: np.datetime64) -> None:
        """Record that rows were written as late as this; the caller holds the write lock."""
        catalogue = self.admitted()
        if newest > catalogue.newest:
            self._put(catalogue._replace(newest=newest).about())

    def follow(self, line: str, *, owner: Owner | None = None) -> None:
        """Record the line of the audit log that the gallery follows, and whose that is if it becomes another's.

        The caller holds the write lock.
        """
        catalogue = self.admitted() if owner is None else self.catalogue()
        self._put(catalogue._replace(line=line, owner=owner or catalogue.owner).about())

    def _known(self, catalogue: Catalogue, table: str) -> Entry:
        if table not in catalogue.entries:
            known = ", ".join(sorted(catalogue.entries)) or "none"
            raise ArtifactError(f"live gallery {self.uri}: there is no table {table} (it has: {known}); publish it")
        return catalogue.entries[table]

    def _commit(self, table: str, entry: Entry) -> None:
        self._put(self.admitted().with_entry(table, entry))

    def _newest_of(self, entry: Entry) -> np.datetime64:
        """When the last row of a table was written, at its latest version or a tag."""
        handle = self._open(entry.physical, entry.physical)
        versions = [None, *handle.tags.list()]
        return max(
            latest_time(self.at(self._open(entry.physical, entry.physical), entry.physical, version))
            for version in versions
        )

    def _put(self, rows: pa.Table) -> None:
        handle = self.system(CATALOGUE, SCHEMA)
        put(handle, SCHEMA, rows.to_batches(), on="table")
        if is_due(handle):
            tidy(handle)


def _column(ids: frozenset[str] | set[str]) -> pa.StringArray:
    return pa.array(sorted(ids), pa.string())
