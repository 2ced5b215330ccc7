"""Columns of a table that tables of an earlier csd lack, and how such tables are read."""

from collections.abc import Iterable
from typing import TypeVar

import pyarrow as pa

AnyRows = TypeVar("AnyRows", pa.Table, pa.RecordBatch)
ADDED = (
    pa.field("source", pa.string()),
    pa.field("path", pa.string()),
    pa.field("thumbnail", pa.binary()),
)
"""Columns that tables of an earlier csd lack, and read as nulls there: what people know an item's original by."""


def completed(rows: AnyRows, columns: Iterable[str]) -> AnyRows:
    """Return rows with those of some columns that their table, of an earlier csd, lacks: nulls."""
    for each in ADDED:
        if each.name in columns and each.name not in rows.schema.names:
            rows = rows.append_column(each, pa.nulls(rows.num_rows, each.type))
    return rows


def stored(columns: Iterable[str], table: pa.Schema) -> list[str]:
    """Return those of some columns that a table has; it lacks none but those of an earlier csd."""
    return [name for name in columns if name in table.names or name not in {each.name for each in ADDED}]
