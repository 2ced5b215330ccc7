"""Short tables: what matters most of a profile, and a contender against the reference seed by seed."""

from collections.abc import Sequence

from csd_core.comparison.report.tables import Table, TableCell, against, marked, spread_of
from csd_core.comparison.report.upgrade_tables import how_often
from csd_core.comparison.results.columns import COLUMNS, UPGRADE_COLUMNS, Column, Of, over_upgrades
from csd_core.comparison.results.figures import Comparison, Measured
from csd_core.comparison.results.intervals import Difference, difference
from csd_core.report.narrative import DASH, percent, points

NAMED = {column.title: column for column in (*COLUMNS, *UPGRADE_COLUMNS)}

GLANCE = tuple(NAMED[title] for title in ("Average", "All seen", "Forgetting R@1, own", "Forgetting acc., own", "BC"))
"""Of glance_table, beside what an upgrade means for old items."""

BEFORE_AND_AFTER = {
    "Old items, before": over_upgrades("gate_self"),
    **{column.head: column.of for column in UPGRADE_COLUMNS},
}
"""Head -> figure."""

SEED_BY_SEED = tuple(NAMED[title] for title in ("Average", "All seen", "Old items, raw", "Old items, adapted", "BC"))
"""Of seed_table: what a better recipe must better."""


def glance_table(comparison: Comparison, profile: str) -> Table:
    """Return what matters most, to a tenth of a point."""
    rows = []
    for name in comparison.contenders(profile):
        cells = list(comparison.runs(profile, name).values())
        kept = (how_often(cells, measure) for measure in ("ecc_keep", "ecc_adapt"))
        figures = (_briefly(cells, of) for of in (*(column.of for column in GLANCE), *BEFORE_AND_AFTER.values()))
        rows.append((marked(comparison, name), (*figures, *kept, TableCell(words=str(len(cells))))))
    return Table(
        title=f"{profile} at a glance",
        head=("Contender", *(column.head for column in GLANCE), *BEFORE_AND_AFTER, "ECC keep", "ECC adapt", "Seeds"),
        rows=tuple(rows),
        notes=(
            (
                "Percent and points, mean ± standard deviation over seeds. Old items are searched by gate queries: the "
                "previous model's before, the new one's in the stored vectors (raw) and in the mapped ones (adapted), "
                "means over upgrades. ECC: upgrades after which more is found than before."
            ),
        ),
    )


def _briefly(cells: Sequence[Measured], of: Of) -> TableCell:
    found = spread_of(cells, of)
    if found is None:
        return TableCell(words=DASH)
    mean = points(found.mean).removeprefix("+")
    return TableCell(words=mean if found.deviation is None else f"{mean} ± {percent(found.deviation)}")


def seed_table(comparison: Comparison, contender: str) -> Table | None:
    """Return a contender less the reference, for every pair of cells; None where there are less than two."""
    profiles = [profile for profile in comparison.profiles if comparison.pairs(contender, profile)]
    if sum(len(comparison.pairs(contender, profile)) for profile in profiles) <= 1:
        return None
    rows = [(profile, _differences(comparison, contender, profile)) for profile in profiles]
    rows.append(("all pairs", tuple(_pooled(against(comparison, contender, column)) for column in SEED_BY_SEED)))
    if len(profiles) > 1:
        means = ([against(comparison, contender, column, each) for each in profiles] for column in SEED_BY_SEED)
        over = (difference([(each.mean, 0.0) for each in found if each]) for found in means)
        rows.append(("all profiles", tuple(map(_pooled, over))))
    return Table(
        title=f"{contender} less {comparison.reference}, seed by seed",
        head=("Profile", *(column.head for column in SEED_BY_SEED)),
        rows=tuple(rows),
        notes=(
            (
                f"Points, in the order of the seeds; {DASH}: not run. All pairs: the mean, its 95 % t-interval, and in "
                f"how many pairs the figure is above {comparison.reference}'s. All profiles: the same of the profiles' "
                "means. Pairs of a profile may share test images, so the first interval is narrower than it should be."
            ),
        ),
    )


def pairs_table(comparison: Comparison, profile: str) -> Table:
    """Return every contender less the reference on a profile, for every seed."""
    names = [name for name in comparison.contenders(profile) if comparison.pairs(name, profile)]
    return Table(
        title=f"{profile}: contender less {comparison.reference}, seed by seed",
        head=("Contender", *(column.head for column in SEED_BY_SEED)),
        rows=tuple(
            (marked(comparison, name), _differences(comparison, name, profile))
            for name in names
            if name != comparison.reference
        ),
        notes=(f"Points, in the order of the seeds; {DASH}: not run.",),
    )


def _differences(comparison: Comparison, contender: str, profile: str) -> tuple[TableCell, ...]:
    """For each column the differences of all seeds, in their order."""
    mine = comparison.runs(profile, contender)
    theirs = comparison.runs(profile, comparison.reference)
    return tuple(
        TableCell(words=", ".join(_difference(mine.get(seed), cell, column) for seed, cell in theirs.items()))
        for column in SEED_BY_SEED
    )


def _difference(mine: Measured | None, theirs: Measured, column: Column) -> str:
    figures = column.of(mine) if mine else None, column.of(theirs)
    return DASH if figures[0] is None or figures[1] is None else points(figures[0] - figures[1])


def _pooled(found: Difference | None) -> TableCell:
    if found is None:
        return TableCell(words=DASH)
    interval = "" if found.low is None else f"{points(found.low)} to {points(found.high)}; "
    return TableCell(words=points(found.mean), small=f"{interval}{found.positive}/{found.pairs}")
