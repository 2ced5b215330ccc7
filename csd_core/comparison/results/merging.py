"""Cells that were measured in several places or sittings, as one table of results."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from csd_core.comparison.results.figures import Measured, load_cells
from csd_core.comparison.results.measures import CellMeasures, Measure
from csd_core.comparison.running.runs import Cell
from csd_core.system.errors import ArtifactError

OF_A_CLOCK = "train_seconds"
"""The one measure that no two runs of a cell agree on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """The cells of several tables.

    Attributes:
        cells: Each as the first table that has it says.
        equal: Cells that several have, with the same parameters and figures, but for the clock's.
        differing: Cells that several have, with other parameters or figures.
    """

    cells: dict[Cell, CellMeasures]
    equal: tuple[Cell, ...]
    differing: tuple[Cell, ...]


def merge_results(paths: Sequence[Path]) -> Merged:
    """Read the tables and put their cells together.

    Args:
        paths: Files results.parquet; the earlier one counts.

    Raises:
        ArtifactError: if one of them is missing or damaged.
    """
    found: dict[Cell, Measured] = {}
    again: dict[Cell, bool] = {}
    for path in paths:
        for cell, measured in load_cells(path).items():
            if cell in found:
                again[cell] = again.get(cell, True) and _timeless(found[cell]) == _timeless(measured)
            else:
                found[cell] = measured
    return Merged(
        cells={cell: _measures(measured) for cell, measured in found.items()},
        equal=tuple(sorted(cell for cell, same in again.items() if same)),
        differing=tuple(sorted(cell for cell, same in again.items() if not same)),
    )


def recorded(path: Path) -> dict[Cell, CellMeasures]:
    """The cells of a table, so that none is lost when it is written again; none where it is missing or damaged."""
    try:
        return {cell: _measures(measured) for cell, measured in load_cells(path).items()}
    except ArtifactError:
        return {}


def _timeless(cell: Measured) -> Measured:
    return Measured(cell.params, {key: value for key, value in cell.values.items() if key[0] != OF_A_CLOCK})


def _measures(cell: Measured) -> CellMeasures:
    values = (
        Measure(measure=name, after=after, on=on, value=value) for (name, after, on), value in cell.values.items()
    )
    return CellMeasures(params=cell.params, values=tuple(values))
