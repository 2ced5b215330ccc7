"""Ids and vectors as columns of Arrow: what a Parquet file and a table of LanceDB have in common."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from csd_core.stores.protocol import Rows
from csd_core.system.errors import ArtifactError, CompatibilityError

VECTOR = "vector"
"""The column of vectors where several columns hold lists of numbers."""


def vector_column(schema: pa.Schema, *, id: str, vector: str | None, name: str) -> str:  # noqa: A002 - as in an address
    """Return the column of vectors.

    Args:
        schema: Of the table.
        id: Column of ids.
        vector: Column of vectors; None for the only one of lists of floats, or the one called `vector`.
        name: For messages.

    Raises:
        ArtifactError: if a column is missing, or that of the vectors holds something else.
    """
    for column in (id, *([vector] if vector else [])):
        if schema.names.count(column) != 1:
            what = "several columns" if column in schema.names else "no column"
            raise ArtifactError(f"{name}: has {what} {column}; its columns are {', '.join(schema.names)}")
    if vector:
        kind = schema.field(vector).type
        if not (_lists(kind) and (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type))):
            raise ArtifactError(f"{name}: column {vector} is {kind}, not lists of numbers")
        return vector
    found = [each.name for each in schema if _lists(each.type) and pa.types.is_floating(each.type.value_type)]
    if len(found) != 1 and VECTOR not in found:
        raise ArtifactError(
            f"{name}: {len(found)} columns hold lists of floats ({', '.join(found) or 'none'}); call that of the "
            f"vectors {VECTOR}"
        )
    return VECTOR if VECTOR in found else found[0]


def rows_of(ids: pa.Array, vectors: pa.Array, name: str) -> Rows:
    """Return the rows that have both an id and a vector; a gap in a vector is not a number.

    Raises:
        ArtifactError: if ids are no text.
        CompatibilityError: if vectors have different dimensions.
    """
    both = pc.and_(ids.is_valid(), vectors.is_valid())
    ids, vectors = ids.filter(both), vectors.filter(both)
    lengths = pc.unique(pc.list_value_length(vectors)).to_pylist()
    if len(lengths) > 1:
        raise CompatibilityError(
            f"{name}: has vectors of {' and '.join(map(str, sorted(lengths)))} dimensions; keep rows of one model in a "
            "column or table of their own"
        )
    try:
        names = np.array(ids.cast(pa.string()).to_pylist(), np.str_)
    except pa.ArrowException:
        raise ArtifactError(f"{name}: its ids are {ids.type} that is no text; write text or numbers") from None
    with np.errstate(over="ignore"):  # what float32 cannot hold is not finite, and told as that
        flat = np.asarray(vectors.flatten().to_numpy(zero_copy_only=False), np.float32)
    return Rows(names, flat.reshape(len(names), lengths[0] if lengths else 0))


def _lists(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))
