"""results.parquet: what all finished runs of a comparison measured, one figure in a row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from csd_core.comparison.results.measures import CellMeasures, Measure
from csd_core.comparison.running.runs import Cell
from csd_core.system.atomic import atomic_file
from csd_core.system.errors import ArtifactError

FILE = "results.parquet"

RUN = [*Cell._fields]
FIGURE = ["measure", "after", "on"]

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

OF_A_CLOCK = "train_seconds"
"""The one measure that no two runs of a cell agree on."""


def write_results(path: Path, measured: Mapping[Cell, CellMeasures]) -> None:
    """Write the table of some cells, whole or not at all."""
    rows = [
        cell._asdict() | {"params": measures.params} | each.model_dump()
        for cell, measures in measured.items()
        for each in measures.values  # noqa: PD011 - no pandas
    ]
    _write(path, pd.DataFrame(rows, columns=SCHEMA.names))


def _write(path: Path, table: pd.DataFrame) -> None:
    """Write rows in any order, sorted by their columns."""
    rows = table.sort_values([*RUN, *FIGURE], na_position="first")
    with atomic_file(path) as partial:
        pq.write_table(pa.Table.from_pandas(rows, SCHEMA, preserve_index=False).replace_schema_metadata(), partial)


def read_results(path: Path) -> pd.DataFrame:
    """Return the table.

    Raises:
        ArtifactError: if it is missing, damaged, of other columns, or has a figure of a cell twice.
    """
    try:
        table = pq.read_table(path)
    except FileNotFoundError:
        raise ArtifactError(f"{path}: missing; `csd compare run` makes it") from None
    except (pa.ArrowException, OSError) as error:
        raise ArtifactError(f"{path}: not a whole parquet file ({error}); `csd compare run` makes it again") from None
    if table.schema.remove_metadata() != SCHEMA:
        raise ArtifactError(f"{path}: has other columns than a table of results; `csd compare run` makes it again")
    rows = table.to_pandas()
    again = rows.duplicated([*RUN, *FIGURE]) | (rows["params"] != rows.groupby(RUN)["params"].transform("first"))
    for row in rows[again].itertuples():
        cell = Cell(row.profile, row.contender, row.seed)
        raise ArtifactError(f"{path}: has {row.measure} of {cell} twice; `csd compare run` makes it again")
    return rows


def recorded(path: Path) -> dict[Cell, CellMeasures]:
    """Return the cells of a table, so that none is lost when it is written again; none if it is missing or damaged."""
    try:
        rows = read_results(path).replace({np.nan: None})
    except ArtifactError:
        return {}
    return {
        Cell(*cell): CellMeasures(
            params=found["params"].iloc[0],
            values=tuple(Measure(**row) for row in found[[*FIGURE, "value"]].to_dict("records")),
        )
        for cell, found in rows.groupby(RUN)
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """Cells of several tables.

    Attributes:
        cells: How many there are.
        equal: Cells that several tables have with the same parameters and figures, seconds aside.
        differing: Cells that several tables have with other parameters or figures.
    """

    cells: int
    equal: tuple[Cell, ...]
    differing: tuple[Cell, ...]


def merge_results(paths: Sequence[Path], output: Path) -> Merged:
    """Write one table of the cells of several; a cell is as the first table that has it says.

    Raises:
        ArtifactError: if one of them is missing or damaged.
    """
    rows = pd.concat([read_results(path).assign(table=place) for place, path in enumerate(paths)])
    first = rows.groupby(RUN)["table"].transform("min")
    _write(output, rows[rows["table"] == first])
    timeless = rows[rows["measure"] != OF_A_CLOCK].groupby([*RUN, "params", *FIGURE, "value"], dropna=False)
    tables, agree = rows.groupby(RUN)["table"].nunique(), timeless["table"].nunique().groupby(RUN).min()
    equal, differing = (
        tuple(Cell(*cell) for cell in tables[same & (tables > 1)].index) for same in (agree == tables, agree < tables)
    )
    return Merged(cells=len(tables), equal=equal, differing=differing)
