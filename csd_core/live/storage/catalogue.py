"""The catalogue of a live gallery: which Lance table is behind a name, whose the gallery is, and how late its rows are.

It is one small Lance table, so each change to it is one commit.
"""

import json
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from csd_core.live.storage.clock import NEVER

CATALOGUE = "catalogue"
SCHEMA = pa.schema(
    [
        pa.field("table", pa.string(), nullable=False),
        pa.field("physical", pa.string(), nullable=False),
        pa.field("partitions", pa.int32(), nullable=False),  # galleries of an earlier csd have this column
    ]
)
_GALLERY = "."
"""The row that is about the gallery itself; no table may have this name."""


class Entry(NamedTuple):
    """What the catalogue says of a table."""

    physical: str


class Owner(NamedTuple):
    """The project that writes to a gallery."""

    project: str
    """Its id."""
    place: str
    """Machine and folder from which it took the gallery, for messages."""


class Catalogue(NamedTuple):
    """The catalogue as it was read."""

    entries: dict[str, Entry]
    owner: Owner | None
    """None where nobody has written yet, or no project was named."""
    newest: np.datetime64
    """No row at any tag was written later."""
    line: str
    """sha256 of the line of the owner's audit log with which a release was last begun here; empty before the first."""

    @classmethod
    def of(cls, rows: pa.Table | None) -> "Catalogue":
        """Read from its rows; without any it is empty."""
        entries: dict[str, Entry] = {}
        owner, newest, line = None, NEVER, ""
        for row in [] if rows is None else rows.to_pylist():
            if row["table"] == _GALLERY:
                facts = json.loads(row["physical"])
                owner = Owner(facts["project"], facts["place"]) if facts["project"] else None
                newest, line = np.datetime64(facts["newest"], "us"), facts["line"]
            else:
                entries[row["table"]] = Entry(row["physical"])
        return cls(entries, owner, newest, line)

    def with_entry(self, table: str, entry: Entry) -> pa.Table:
        """Rows that change one table's entry; the row about the gallery is among them."""
        return pa.concat_tables([_row(table, entry.physical), self.about()])

    def about(self) -> pa.Table:
        """The row about the gallery itself."""
        project, place = self.owner or ("", "")
        newest = int(self.newest.astype(np.int64))
        facts = {"project": project, "place": place, "newest": newest, "line": self.line}
        return _row(_GALLERY, json.dumps(facts, ensure_ascii=False))


def _row(table: str, physical: str) -> pa.Table:
    return pa.table({"table": [table], "physical": [physical], "partitions": [0]}, SCHEMA)
