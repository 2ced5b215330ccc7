"""Indices of the tests' tables."""

from csd_core.live.index.files import SearchIndex, write_index

MANY = 32
"""Rows from which the tests' parts have cells: few rows are compared one by one, so the tests lower that limit."""


def index_of(live, table, rules):
    """The index of a table as it is now."""
    folder = live.root / f"index-{table}"
    write_index(folder, live, table, rules)
    return SearchIndex.of(folder)
