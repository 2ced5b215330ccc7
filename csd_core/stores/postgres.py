"""A table of PostgreSQL with pgvector: a second column beside the first; two renames in one transaction switch them.

embedding_csd_KEY      second vectors, while the upgrade is not active
embedding_before_KEY   the vectors before it, while it is active
"""

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from csd_core.stores.protocol import BATCH_ROWS, Held, Rows, Strings, library, stacked
from csd_core.system.errors import ArtifactError, BusyError, message_of

LOCK_SECONDS = 10
"""For which a switch waits for queries that use the table; while it waits, later ones wait behind it."""


class PostgresTable:
    """Rows of a table.

    Attributes:
        name: For messages, without the password.
        table: Its name, after its schema's and a dot if that is not on the search path; capitals count.
        identity: Column of ids: unique, not null.
        vector: Column of the active vectors, of type vector or halfvec.
    """

    def __init__(self, address: str, *, name: str, table: str, id: str, vector: str) -> None:  # noqa: A002 - as in its address
        self._psycopg: Any = library("psycopg", extra="pgvector")
        register: Any = library("pgvector.psycopg", extra="pgvector").register_vector
        self.name, self.table, self.identity, self.vector = name, table, id, vector
        sql = self._psycopg.sql
        self._names = {
            "table": sql.Identifier(*table.split(".")),
            "id": sql.Identifier(id),
            "vector": sql.Identifier(vector),
        }
        with self._told(), ExitStack() as opened:
            self._connection = self._psycopg.connect(address, autocommit=True, application_name="csd")
            opened.callback(self._connection.close)
            self._quoted = self._names["table"].as_string(self._connection)  # as PostgreSQL reads a name
            if self._one("SELECT to_regclass(%s)", self._quoted) is None:
                raise ArtifactError(f"{name}: has no table {table}")
            if self._one("SELECT to_regtype('vector')") is None:
                raise ArtifactError(f"{name}: lacks the extension pgvector; run CREATE EXTENSION vector there")
            register(self._connection)
            columns = self._columns()
            for column in (id, vector):
                if column not in columns:
                    raise ArtifactError(f"{name}: has no column {column}; it has {', '.join(columns)}")
            opened.pop_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold an advisory lock, which ends with the connection."""
        held = self._one("SELECT pg_try_advisory_lock(hashtext('csd upgrade'), %s::regclass::oid::int)", self._quoted)
        if not held:
            raise BusyError(f"{self.name}: another upgrade is at work; try again when it has finished")
        try:
            yield
        finally:
            if not self._connection.closed:
                self._do("SELECT pg_advisory_unlock(hashtext('csd upgrade'), {}::regclass::oid::int)", self._quoted)

    def count(self) -> int:
        """Return the number of rows."""
        return int(self._do("SELECT count(*) FROM {table}").fetchone()[0])

    def rows(self) -> Iterator[Rows]:
        """Yield the rows that have a vector, in the order of their ids."""
        return self._scan(self.vector)

    def held(self) -> Held | None:
        """Return the upgrade whose column is there."""
        for column in self._columns():
            for mark, active in ((f"{self.vector}_csd_", False), (f"{self.vector}_before_", True)):
                if column.startswith(mark):
                    return Held(column.removeprefix(mark), active)
        return None

    def begin(self, key: str, dimension: int) -> None:
        """Add a column of nulls; no row is rewritten for it.

        Raises:
            ArtifactError: if it is a view or the like, or its vectors are of another type.
        """
        if self._one("SELECT relkind IN ('r', 'p') FROM pg_class WHERE oid = %s::regclass", self._quoted) is False:
            raise ArtifactError(f"{self.name}: {self.table} is a view or the like; name the table that has the vectors")
        kind = self._columns()[self.vector].partition("(")[0]
        if kind.rpartition(".")[2] not in ("vector", "halfvec"):
            raise ArtifactError(
                f"{self.name}: column {self.vector} is of type {kind}; an upgrade needs vector or halfvec"
            )
        with self._switching():
            self._do(f"ALTER TABLE {{table}} ADD COLUMN IF NOT EXISTS {{second}} {kind}({dimension})", key=key)

    def write(self, key: str, rows: Rows) -> None:
        """Copy a batch into a table of this connection, and update from it, in one transaction."""
        kind = self._columns()[self.identity]
        with self._told(), self._connection.transaction():
            self._do(f"CREATE TEMPORARY TABLE csd_rows (id {kind} PRIMARY KEY, vector vector) ON COMMIT DROP")
            with self._connection.cursor().copy("COPY csd_rows FROM STDIN") as copy:
                for identity, vector in zip(rows.ids.tolist(), rows.vectors, strict=True):
                    copy.write_row((identity, vector))
            self._do(
                "UPDATE {table} SET {second} = csd_rows.vector FROM csd_rows WHERE {table}.{id} = csd_rows.id", key=key
            )

    def beside(self, key: str) -> Iterator[Rows]:
        """Yield the second column where it is not null."""
        return self._scan(_second(self.vector, key))

    def discard(self, key: str, ids: Strings) -> None:
        """Set them to null, in one transaction."""
        kind = self._psycopg.sql.SQL(self._columns()[self.identity])
        self._do("UPDATE {table} SET {second} = NULL WHERE {id} = ANY({}::{}[])", ids.tolist(), kind, key=key)

    def switch(self, key: str) -> None:
        """Index the second column as the first is, then rename both; the old one may be null from now on."""
        self._index(key)
        with self._switching():
            self._do("ALTER TABLE {table} RENAME {vector} TO {before}", key=key)
            self._do("ALTER TABLE {table} ALTER {before} DROP NOT NULL", key=key)
            self._do("ALTER TABLE {table} RENAME {second} TO {vector}", key=key)

    def undo(self, key: str) -> None:
        """Rename both back."""
        with self._switching():
            self._do("ALTER TABLE {table} RENAME {vector} TO {second}", key=key)
            self._do("ALTER TABLE {table} RENAME {before} TO {vector}", key=key)

    def clean(self, key: str) -> None:
        """Drop the column that is not active, with its indexes."""
        with self._switching():
            self._do("ALTER TABLE {table} DROP COLUMN IF EXISTS {second}", key=key)
            self._do("ALTER TABLE {table} DROP COLUMN IF EXISTS {before}", key=key)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _index(self, key: str) -> None:
        """Make an index on the second column for each that is on the first, while the table is in use."""
        second = _second(self.vector, key)
        found = self._do(
            "SELECT i.relname, pg_get_indexdef(x.indexrelid), x.indisvalid, a.attname FROM pg_index x "
            "JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_attribute a ON a.attrelid = x.indrelid "
            "AND a.attnum = x.indkey[0] WHERE x.indrelid = {}::regclass AND x.indnatts = 1",
            self._quoted,
        ).fetchall()
        ready = {name for name, _, valid, column in found if column == second and valid}
        sql = self._psycopg.sql
        for name, definition, valid, column in found:
            target = f"{name[:50]}_{key}"
            if column != self.vector or not valid or target in ready:
                continue
            self._do("DROP INDEX IF EXISTS {}", sql.Identifier(target))  # what a killed run left is not valid
            method = re.fullmatch(r"CREATE INDEX .*? ON (.*? USING \w+) \(\S+( .*)?\)(.*)", definition)
            if method is None:
                continue  # unique or of another form: none that serves a search
            self._do(
                f"CREATE INDEX CONCURRENTLY {{}} ON {_plain(method[1])} ({{second}}{_plain(method[2] or '')})"
                f"{_plain(method[3])}",
                sql.Identifier(target),
                key=key,
            )

    def _scan(self, column: str) -> Iterator[Rows]:
        """Read pages by id: one long query would keep PostgreSQL from cleaning up what is written meanwhile."""
        sql = self._psycopg.sql
        more: Any = sql.SQL("true")
        after: tuple[object, ...] = ()
        while True:
            with self._told():
                found = self._connection.execute(
                    sql.SQL(
                        "SELECT {id}, {column}::vector FROM {table} WHERE {column} IS NOT NULL AND {more} "
                        "ORDER BY {id} LIMIT {rows}"
                    ).format(**self._names, column=sql.Identifier(column), more=more, rows=sql.Literal(BATCH_ROWS)),
                    after,
                    binary=True,
                ).fetchall()
            if not found:
                return
            more, after = sql.SQL("{id} > %s").format(**self._names), (found[-1][0],)
            yield stacked([row[0] for row in found], [_floats(row[1]) for row in found], self.name)

    def _columns(self) -> dict[str, str]:
        """Name -> type."""
        return dict(
            self._do(
                "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
                "WHERE attrelid = {}::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
                self._quoted,
            ).fetchall()
        )

    def _one(self, query: str, *values: object) -> Any:
        with self._told():
            return self._connection.execute(query, values).fetchone()[0]

    def _do(self, query: str, *values: Any, key: str = "") -> Any:
        sql = self._psycopg.sql
        names = self._names | {
            "second": sql.Identifier(_second(self.vector, key)),
            "before": sql.Identifier(f"{self.vector}_before_{key}"),
        }
        given = [each if isinstance(each, sql.Composable) else sql.Literal(each) for each in values]
        with self._told():
            return self._connection.execute(sql.SQL(query).format(*given, **names))

    @contextmanager
    def _switching(self) -> Iterator[None]:
        """One transaction that gives up rather than let all queries wait behind it."""
        with self._told(), self._connection.transaction():
            self._connection.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")
            yield

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except self._psycopg.errors.LockNotAvailable:
            raise BusyError(
                f"{self.name}: queries have used {self.table} for {LOCK_SECONDS} s, so it could not be altered; run "
                "again, what is written is kept"
            ) from None
        except self._psycopg.Error as error:
            raise ArtifactError(f"{self.name}: PostgreSQL says {message_of(error)}") from None


def _second(vector: str, key: str) -> str:
    return f"{vector}_csd_{key}"


def _plain(text: str) -> str:
    """Return text whose braces `psycopg.sql.SQL.format` leaves as they are."""
    return text.replace("{", "{{").replace("}", "}}")


def _floats(vector: Any) -> np.ndarray:
    return np.asarray(vector.to_numpy() if hasattr(vector, "to_numpy") else vector, np.float32)
