"""The figures of a comparison, run by run, beside the runs that were planned."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from csd_core.comparison.results.columns import NAMED
from csd_core.comparison.results.intervals import Difference, compare, mean
from csd_core.comparison.results.table import FIGURE, RUN, read_results
from csd_core.comparison.running.runs import Cell
from csd_core.system.errors import ArtifactError

GATE = ("gate_self", "gate_cross", "gate_adapted")
"""Recalls of old items; a run's figure is the mean over its upgrades."""
PASSES = ("would_pass_keep", "would_pass_adapt", "would_pass_merge", "would_pass_partial", "would_pass_backfill")
TRUTHS = (
    *("ecc_keep", "ecc_adapt", "ecc_keep_bound", "ecc_adapt_bound"),
    *("would_pass_keep", "would_pass_adapt", "would_pass_merge", "would_pass_backfill", "would_pass_none"),
)
"""Measures that are true above 0."""
OF_TEST = ("test_queries", "test_lost", "test_gained", "test_bound")
"""Of upgrades that the gate promotes."""
OF_WAY = ("promoted", "gain", "gain_bound", "lost", "old_change", "rows_embedded", "query_models")
"""Of each way to serve a candidate."""


class Measured(NamedTuple):
    """What one run measured, as the pictures look it up.

    Attributes:
        values: (measure, after, on) -> value, stage by stage; after and on are None where a measure has none, and for
            the mean over the upgrades of a measure of GATE.
    """

    values: Mapping[tuple[str, str | None, str | None], float]

    def at(self, measure: str, after: str | None = None, on: str | None = None) -> float | None:
        """Return a figure; None where it was not measured."""
        return self.values.get((measure, after, on))

    def generations(self) -> tuple[str, ...]:
        """Return names of the distinct models that served, in the order of their tasks."""
        return tuple(on for measure, after, on in self.values if measure == "compatibility" and on and on == after)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Cells that were planned, and what those that have run measured.

    Attributes:
        name: Of the comparison.
        planned: Every cell.
        reference: The contender that the others are compared with.
        methods: Contender -> its method, in the order of the specification; empty for that of the profile.
        results: Rows of results.parquet, of planned cells, with the places of `after` and `on` in the line of tasks;
            its index is RUN.
        stray: Cells that were measured and are not planned (any more); no figure of the report has them in it.
        outdated: Cells that were measured with other parameters than are planned now; the figures have them in.
    """

    name: str
    planned: tuple[Cell, ...]
    reference: str
    methods: Mapping[str, str]
    results: pd.DataFrame
    stray: tuple[Cell, ...]
    outdated: tuple[Cell, ...]

    @cached_property
    def figures(self) -> pd.DataFrame:
        """One row for each run and one column for each figure; NaN where it was not measured.

        Measures of the whole line of tasks, those after the last stage, `initial` and `final` (Recall@1 then on the
        first and the last task's own gallery), and means over the upgrades.
        """
        rows = self.results
        last = rows[rows["stage"] == rows.groupby(RUN)["stage"].transform("max")]
        single = pd.concat([rows[rows["after"].isna()], last[last["on"].isna() & ~last["measure"].isin(GATE)]])
        own = last[last["measure"] == "recall_own"].sort_values("place").groupby(RUN)["value"]
        figures = single.pivot_table(index=RUN, columns="measure", values="value")
        figures = figures.assign(initial=own.first(), final=own.last()).join(
            self.upgrades[[*GATE]].groupby(RUN).agg(mean)
        )
        return figures.reindex(columns=[column.figure for column in NAMED.values()])

    @cached_property
    def upgrades(self) -> pd.DataFrame:
        """One row for each stage after the first of each run, and one column for each measure that the gate tells."""
        told = self.results[self.results["measure"].isin([*GATE, *TRUTHS, *PASSES, *OF_TEST])]
        found = told.pivot_table(index=[*RUN, "after"], columns="measure", values="value")
        passed = found.reindex(columns=PASSES).max(axis=1)
        return found.assign(would_pass_none=(passed <= 0).where(passed.notna())).reindex(
            columns=[*dict.fromkeys([*GATE, *TRUTHS, *PASSES, *OF_TEST])]
        )

    @cached_property
    def ways(self) -> pd.DataFrame:
        """One row for each way to serve (`on`) each candidate after the first, and one column for each of OF_WAY."""
        told = self.results[self.results["measure"].isin(OF_WAY)]
        return told.pivot_table(index=[*RUN, "after", "on"], columns="measure", values="value").reindex(columns=OF_WAY)

    @cached_property
    def stopped(self) -> pd.Series:
        """The conditions that a full backfill fails, by RUN and the task after which a candidate was rejected."""
        return self.results[self.results["measure"] == "stopped"].set_index("after", append=True)["on"]

    @cached_property
    def differences(self) -> pd.DataFrame:
        """The figures of each run less the reference's of the same profile and seed; runs without one are left out."""
        return (self.figures - matching(self.figures, self.reference)).dropna(how="all")

    @cached_property
    def pooled(self) -> dict[tuple[str, str], Difference]:
        """(contender, figure) -> its differences to the reference over all profiles and seeds."""
        return compare(self.differences)

    @cached_property
    def missing(self) -> tuple[Cell, ...]:
        """Planned cells that have not run."""
        return tuple(cell for cell in self.planned if cell not in self.figures.index)

    @cached_property
    def profiles(self) -> tuple[str, ...]:
        """Those of which a cell has run."""
        return tuple(dict.fromkeys(cell.profile for cell in self.planned if cell in self.figures.index))

    def contenders(self, profile: str | None = None) -> tuple[str, ...]:
        """Return those of which a cell has run, on a profile or on any."""
        found = part(self.figures, profile).index.unique("contender")
        return tuple(name for name in self.methods if name in found)

    def tasks(self, profile: str) -> tuple[str, ...]:
        """Of a profile, in their order."""
        line = part(self.results, profile).dropna(subset="stage").sort_values("stage")
        return tuple(line.drop_duplicates("stage")["after"])

    @cached_property
    def _runs(self) -> dict[Cell, Measured]:
        means = self.figures[[*GATE]].melt(var_name="measure", ignore_index=False)
        every = pd.concat([self.results.sort_values("stage"), means]).replace({np.nan: None})
        return {
            Cell(*cell): Measured(
                dict(zip(rows[FIGURE].itertuples(index=False, name=None), rows["value"], strict=True))
            )
            for cell, rows in every.groupby(RUN)
        }

    def runs(self, profile: str, contender: str) -> dict[int, Measured]:
        """Return seed -> what was measured, in rising order of seeds."""
        return {cell.seed: run for cell, run in self._runs.items() if cell[:2] == (profile, contender)}


def part(
    rows: pd.DataFrame, profile: str | None = None, contender: str | None = None, after: str | None = None
) -> pd.DataFrame:
    """Return the rows that have some names in their index, those that are given."""
    for level, name in (("profile", profile), ("contender", contender), ("after", after)):
        if name is not None:
            rows = rows[rows.index.get_level_values(level) == name]
    return rows


def matching(rows: pd.DataFrame, contender: str) -> pd.DataFrame:
    """Return for each row that of a contender on the same profile and seed; NaN where it has none."""
    theirs = part(rows, contender=contender).droplevel("contender")
    return theirs.reindex(rows.index.droplevel("contender")).set_axis(rows.index)


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
    rows = read_results(path)
    params = {Cell(*cell): params for cell, params in rows.groupby(RUN)["params"].first().items()}
    if not params.keys() & planned.keys():
        raise ArtifactError(f"{path}: none of the {len(planned)} planned cells has run; run `csd compare run` first")
    rows = rows.set_index(RUN)
    rows = rows[rows.index.isin(planned)]
    # After a stage, the tasks up to it are measured: their number is the stage's place in the line.
    place = rows[rows["measure"] == "recall_own"].groupby([*RUN, "after"])["on"].nunique() - 1
    return Comparison(
        name=name,
        planned=tuple(planned),
        reference=reference,
        methods=methods,
        results=rows.join(place.rename("stage"), on=[*RUN, "after"]).join(place.rename("place"), on=[*RUN, "on"]),
        stray=tuple(cell for cell in params if cell not in planned),
        outdated=tuple(cell for cell, digest in params.items() if planned.get(cell, digest) != digest),
    )
