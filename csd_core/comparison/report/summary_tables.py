"""Short tables: what matters most of a profile, and a contender against the reference seed by seed."""

from collections.abc import Mapping

from csd_core.comparison.report.tables import Table, TableCell, heads, marked, rows_of
from csd_core.comparison.report.upgrade_tables import how_often
from csd_core.comparison.results.columns import BEFORE, NAMED, UPGRADE_COLUMNS
from csd_core.comparison.results.figures import Comparison, part
from csd_core.comparison.results.intervals import DIGITS, Difference, compare, deviation, mean
from csd_core.report.narrative import DASH, percent, points

GLANCE = (
    *(NAMED[title] for title in ("Average", "All seen", "Forgetting R@1, own", "Forgetting acc., own", "BC")),
    BEFORE,
    *UPGRADE_COLUMNS,
)
"""Of glance_table, beside how often an upgrade finds more old items."""

SEED_BY_SEED = tuple(NAMED[title] for title in ("Average", "All seen", "Old items, raw", "Old items, adapted", "BC"))
"""Of seed_table: what a better recipe must better."""


def glance_table(comparison: Comparison, profile: str) -> Table:
    """Return what matters most, to a tenth of a point."""
    runs = part(comparison.figures, profile)
    grouped = runs.groupby("contender")
    means = grouped.agg(mean).map(lambda value: points(value).removeprefix("+"))
    words = (means + " ± " + grouped.agg(deviation).map(percent)).where(grouped.count() > 1, means)
    counts = how_often(part(comparison.upgrades, profile))[["ecc_keep", "ecc_adapt"]]
    told = words[[column.figure for column in GLANCE]].join(counts).fillna(DASH)
    told = told.assign(seeds=grouped.size().map(str)).loc[[*comparison.contenders(profile)]]
    return Table(
        title=f"{profile} at a glance",
        head=("Contender", *heads(GLANCE), "ECC keep", "ECC adapt", "Seeds"),
        rows=rows_of(told.rename(lambda name: marked(comparison, name))),
        note=(
            "Percent and points, mean ± standard deviation over seeds. Old items are searched by gate queries: the "
            "previous model's before, the new one's in the stored vectors (raw) and in the mapped ones (adapted), "
            "means over upgrades. ECC: upgrades after which more is found than before."
        ),
    )


def seed_table(comparison: Comparison, contender: str) -> Table | None:
    """Return a contender less the reference, for every pair of cells; None where there are less than two."""
    found = part(comparison.differences, contender=contender)
    profiles = [profile for profile in comparison.profiles if profile in found.index.unique("profile")]
    if len(found) <= 1:
        return None
    rows = {profile: _differences(comparison, contender, profile) for profile in profiles}
    rows["all pairs"] = _pooled(comparison.pooled, contender)
    if len(profiles) > 1:
        shown = found[[column.figure for column in SEED_BY_SEED]]
        means = shown.round(DIGITS).groupby(["profile", "contender"]).agg(mean)
        rows["all profiles"] = _pooled(compare(means), contender)
    return Table(
        title=f"{contender} less {comparison.reference}, seed by seed",
        head=("Profile", *heads(SEED_BY_SEED)),
        rows=rows,
        note=(
            f"Points, in the order of the seeds; {DASH}: not run. All pairs: the mean, its 95 % t-interval, and in "
            f"how many pairs the figure is above {comparison.reference}'s. All profiles: the same of the profiles' "
            "means. Pairs of a profile may share test images, so the first interval is narrower than it should be."
        ),
    )


def pairs_table(comparison: Comparison, profile: str) -> Table:
    """Return every contender less the reference on a profile, for every seed."""
    found = part(comparison.differences, profile).index.unique("contender")
    return Table(
        title=f"{profile}: contender less {comparison.reference}, seed by seed",
        head=("Contender", *heads(SEED_BY_SEED)),
        rows={
            marked(comparison, name): _differences(comparison, name, profile)
            for name in comparison.contenders(profile)
            if name != comparison.reference and name in found
        },
        note=f"Points, in the order of the seeds; {DASH}: not run.",
    )


def _differences(comparison: Comparison, contender: str, profile: str) -> tuple[TableCell, ...]:
    """For each column the differences of all seeds, in their order."""
    seeds = part(comparison.figures, profile, comparison.reference).index.get_level_values("seed")
    found = part(comparison.differences, profile, contender).droplevel(["profile", "contender"]).reindex(seeds)
    return tuple(TableCell(", ".join(map(points, found[column.figure]))) for column in SEED_BY_SEED)


def _pooled(found: Mapping[tuple[str, str], Difference], contender: str) -> tuple[TableCell, ...]:
    """For each column a contender's mean difference and its interval."""
    each = (found[contender, column.figure] for column in SEED_BY_SEED)
    return tuple(TableCell(points(one.mean), one.small(points)) if one.pairs else TableCell(DASH) for one in each)
