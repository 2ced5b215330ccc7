"""Pairs that should match, from clicks or known duplicates, in place of classes.

Items that a chain of pairs joins are one class. An item in no pair is alone: it asks nothing, and is found in vain.
"""

from pathlib import Path

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from csd_core.data.tables import Strings
from csd_core.retrieval.metrics import Bools
from csd_core.standalone.vectors.labels import read_columns
from csd_core.system.console import echo
from csd_core.system.errors import DataError


def read_pairs(file: Path, ids: Strings) -> tuple[Strings, Bools]:
    """Read a .csv or .parquet table with the columns query and item.

    Args:
        file: The table.
        ids: (N,) of all items, unique.

    Returns:
        (N,) names of the classes that the pairs make, and (N,) which of the items are asked with.

    Raises:
        DataError: if it is missing or damaged, lacks a column, or joins none of the items.
    """
    columns = read_columns(file)
    if absent := {"query", "item"} - set(columns):
        raise DataError(f"{file}: has no column {min(absent)}; its columns are {', '.join(columns)}")
    place = {identity: row for row, identity in enumerate(ids.tolist())}
    ends = np.array(
        [[place.get(each, -1) for each in columns[name].tolist()] for name in ("query", "item")], np.intp
    )  # (2, P)
    pairs = ends.shape[1]
    known = (ends[0] >= 0) & (ends[1] >= 0)
    unknown = pairs - int(known.sum())
    ends = ends[:, known & (ends[0] != ends[1])]
    if not ends.shape[1]:
        example = f"its ids are such as {columns['query'][0]}" if len(columns["query"]) else "it has no rows"
        raise DataError(
            f"{file}: no pair joins two of the {len(ids):,} items; {example}, those of the items such as {ids[0]}"
        )
    if unknown:
        echo(f"{file}: {unknown:,} of {pairs:,} pairs name an unknown id and are left out")
    joined = coo_array((np.ones(ends.shape[1]), (ends[0], ends[1])), shape=(len(ids), len(ids)))
    number = connected_components(joined, directed=False)[1]
    asks = np.zeros(len(ids), np.bool_)
    asks[ends[0]] = True
    return np.array([f"match {each}" for each in number.tolist()], np.str_), asks
