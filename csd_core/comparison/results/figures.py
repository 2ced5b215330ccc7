"""The figures of a comparison as results.parquet holds them, cell by cell, beside the cells that were planned."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from csd_core.comparison.results.table import read_results
from csd_core.comparison.running.runs import Cell
from csd_core.system.errors import ArtifactError


@dataclass(frozen=True)
class Measured:
    """What one cell measured.

    Attributes:
        params: CellParams.digest of what it was measured with.
        values: (measure, after, on) -> value; after and on are None where a measure has none.
    """

    params: str
    values: Mapping[tuple[str, str | None, str | None], float]

    def at(self, measure: str, after: str | None = None, on: str | None = None) -> float | None:
        """Return a figure; None where it was not measured."""
        return self.values.get((measure, after, on))

    @cached_property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks in their order: after a stage, only tasks up to it are measured."""
        measured: dict[str, set[str]] = {}
        for measure, after, on in self.values:
            if after is not None:
                found = measured.setdefault(after, set())
                if measure == "recall_own" and on is not None:
                    found.add(on)
        return tuple(sorted(measured, key=lambda task: (len(measured[task]), _natural(task))))

    def generations(self) -> tuple[str, ...]:
        """Return names of the distinct models that served, in the order of their tasks."""
        return tuple(task for task in self.tasks if self.at("compatibility", task, task) is not None)


def _natural(name: str) -> tuple[tuple[int, str], ...]:
    """So that t2 comes before t10."""
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in re.findall(r"\d+|\D+", name))


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Cells that were planned, and what those that have run measured.

    Attributes:
        name: Of the comparison.
        planned: Every cell.
        reference: The contender that the others are compared with.
        methods: Contender -> its method, in the order of the specification; empty for that of the profile.
        cells: What was measured; planned cells that have not run are missing.
        stray: Cells that were measured and are not planned (any more); no figure of the report has them in it.
        outdated: Cells that were measured with other parameters than are planned now; the figures have them in.
    """

    name: str
    planned: tuple[Cell, ...]
    reference: str
    methods: Mapping[str, str]
    cells: Mapping[Cell, Measured]
    stray: tuple[Cell, ...]
    outdated: tuple[Cell, ...]

    @property
    def missing(self) -> tuple[Cell, ...]:
        """Planned cells that have not run."""
        return tuple(key for key in self.planned if key not in self.cells)

    @property
    def profiles(self) -> tuple[str, ...]:
        """Those of which a cell has run."""
        return tuple(dict.fromkeys(key.profile for key in self.planned if key in self.cells))

    def contenders(self, profile: str | None = None) -> tuple[str, ...]:
        """Return those of which a cell has run, on a profile or on any."""
        found = {key.contender for key in self.cells if profile in {None, key.profile}}
        return tuple(name for name in self.methods if name in found)

    def runs(self, profile: str, contender: str) -> dict[int, Measured]:
        """Seed -> what was measured, in rising order of seeds."""
        found = {
            key.seed: cell for key, cell in self.cells.items() if (key.profile, key.contender) == (profile, contender)
        }
        return dict(sorted(found.items()))

    def tasks(self, profile: str) -> tuple[str, ...]:
        """Of a profile, in their order."""
        found = [cell.tasks for key, cell in self.cells.items() if key.profile == profile]
        return max(found, key=len, default=())

    def pairs(self, contender: str, profile: str | None = None) -> list[tuple[Measured, Measured]]:
        """Return the contender's and the reference's cells of the same profile and seed, on a profile or on all."""
        return [
            (mine, theirs)
            for each in ((profile,) if profile is not None else self.profiles)
            for seed, mine in self.runs(each, contender).items()
            if (theirs := self.runs(each, self.reference).get(seed)) is not None
        ]


def load_comparison(
    path: Path, *, name: str, planned: Mapping[Cell, str], reference: str, methods: Mapping[str, str]
) -> Comparison:
    """Read results.parquet.

    Args:
        path: The file.
        name: Of the comparison.
        planned: Every cell that should run -> CellParams.digest of its parameters.
        reference: The contender that the others are compared with.
        methods: Contender -> its method, in the order in which they are shown; empty for that of the profile.

    Raises:
        ArtifactError: if the file is missing, damaged, of other columns, or holds none of the planned cells.
    """
    found = load_cells(path)
    cells = {key: found[key] for key in planned if key in found}
    if not cells:
        raise ArtifactError(f"{path}: none of the {len(planned)} planned cells has run; run `csd compare run` first")
    return Comparison(
        name=name,
        planned=tuple(planned),
        reference=reference,
        methods=methods,
        cells=cells,
        stray=tuple(sorted(key for key in found if key not in planned)),
        outdated=tuple(sorted(key for key, cell in cells.items() if cell.params != planned[key])),
    )


def load_cells(path: Path) -> dict[Cell, Measured]:
    """Read results.parquet, whatever was planned.

    Raises:
        ArtifactError: if the file is missing, damaged, of other columns, or has a figure of a cell twice.
    """
    columns = [column.to_pylist() for column in read_results(path).itercolumns()]
    cells: dict[Cell, tuple[str, dict[tuple[str, str | None, str | None], float]]] = {}
    for profile, contender, seed, params, measure, after, on, value in zip(*columns, strict=True):
        key = Cell(profile, contender, seed)
        known, values = cells.setdefault(key, (params, {}))
        if known != params or (measure, after, on) in values:
            raise ArtifactError(f"{path}: has {measure} of {key} twice; `csd compare run` makes it again")
        values[measure, after, on] = value
    return {key: Measured(params, values) for key, (params, values) in cells.items()}
