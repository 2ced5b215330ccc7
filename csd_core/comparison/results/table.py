"""results.parquet: what all finished cells of a comparison measured, in long form."""

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from csd_core.comparison.results.measures import CellMeasures
from csd_core.comparison.running.runs import Cell
from csd_core.system.atomic import atomic_file
from csd_core.system.errors import ArtifactError

FILE = "results.parquet"

SCHEMA = pa.schema(
    [
        pa.field("profile", pa.string(), nullable=False),
        pa.field("contender", pa.string(), nullable=False),
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("params", pa.string(), nullable=False),
        pa.field("measure", pa.string(), nullable=False),
        pa.field("after", pa.string()),
        pa.field("on", pa.string()),
        pa.field("value", pa.float64(), nullable=False),
    ]
)


def write_results(path: Path, measured: Mapping[Cell, CellMeasures]) -> None:
    """Write the table, sorted by its columns in their order, whole or not at all."""
    rows = [
        {
            "profile": cell.profile,
            "contender": cell.contender,
            "seed": cell.seed,
            "params": measures.params,
            **each.model_dump(),
        }
        for cell, measures in measured.items()
        for each in measures.values
    ]
    keys = ("profile", "contender", "seed", "measure", "after", "on")
    rows.sort(key=lambda row: tuple(row[key] if row[key] is not None else "" for key in keys))
    with atomic_file(path) as partial:
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), partial)


def read_results(path: Path) -> pa.Table:
    """Return the table.

    Raises:
        ArtifactError: if it is missing, damaged or of another form.
    """
    try:
        table = pq.read_table(path)
    except FileNotFoundError:
        raise ArtifactError(f"{path}: missing; `csd compare run` makes it") from None
    except (pa.ArrowException, OSError) as error:
        raise ArtifactError(f"{path}: not a whole parquet file ({error}); `csd compare run` makes it again") from None
    if table.schema.remove_metadata() != SCHEMA:
        raise ArtifactError(f"{path}: has other columns than a table of results; `csd compare run` makes it again")
    return table
