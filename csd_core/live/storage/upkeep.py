"""Merges the small files that many commits leave, so that neither the files nor the merging makes writes expensive."""

from contextlib import suppress
from datetime import timedelta

from lancedb.index import BTree
from lancedb.table import Table

from csd_core.live.storage.lance import lance_errors
from csd_core.system.errors import CsdError

KEEP = timedelta(hours=1)
"""Old versions of a table without tags that a slow reader may still hold open."""
EVERY = 32
"""Commits after which a table is looked at: whether small files are to be merged."""
ROWS = 2048
"""Rows after which it is, where commits are large: an index finds rows written since by reading all of them."""


def is_due(handle: Table, *, rows: int = 1) -> bool:
    """Whether a table is to be looked at after a write.

    It asks the table's version alone, so that some process finds it so every EVERY commits, or every ROWS rows.

    Args:
        handle: The table.
        rows: That were written.
    """
    return int(handle.version) % max(1, min(EVERY, ROWS // max(1, rows))) == 0


def tidy(handle: Table, *, indexed: str | None = None, at_least: int = 0) -> None:
    """Merge the small files of a table without tags (a system table is one) and drop its older versions.

    Nothing depends on it, so nothing that goes wrong here is told.

    Args:
        handle: The table.
        indexed: A column by which rows are looked up.
        at_least: From so many rows on that column gets an index.
    """
    with suppress(CsdError), lance_errors(handle.name):
        if indexed and handle.count_rows() >= at_least and not handle.list_indices():
            handle.create_index(indexed, config=BTree())
        handle.optimize(cleanup_older_than=KEEP)
