"""The figures by which upgrades are judged, a contender in each column."""

import math
from collections.abc import Iterator

from csd_core.comparison.report.tables import Table, TableCell, marked
from csd_core.comparison.results.figures import Comparison
from csd_core.comparison.results.upgrade_figures import WAYS, Cost, UpgradeFigures, figures_of_upgrades
from csd_core.report.narrative import MINUS, percent, points


def judged_table(comparison: Comparison, profile: str | None = None) -> Table:
    """Return what the gate says of upgrades, on a profile or over all, what they bring, and who was wrong."""
    where = "all profiles" if profile is None else profile
    names = comparison.contenders(profile)
    columns = [dict(_judged(figures_of_upgrades(comparison, name, profile))) for name in names]
    return Table(
        title=f"{where}: upgrades",
        head=("Upgrades", *(marked(comparison, name) for name in names)),
        rows={row: tuple(column[row] for column in columns) for row in columns[0]},
        note="" if profile else NOTE,
    )


NOTE = (
    "A way passes if the gate promotes the candidate with that way as the only one allowed; promoted is the verdict "
    "with all ways allowed, so a candidate may pass in some way and be rejected, for ways that compete share the risk "
    "of a wrong verdict. Without a row re-embedded: by keep or adapt with one model that embeds queries, by merge with "
    "two.\n\n"
    "Share of the gain: sum over upgrades of what is gained against the status quo, divided by the same of a full "
    "backfill; beside it the 95 % interval by the jackknife over cells (profile, seed). Cells of a profile may share "
    "images, so it is narrower than it should be. Changes are points, queries are those of gate; test queries, on "
    "which nothing was chosen, search the gallery that would be served under the promoted way. Worse, proven: the 95 % "
    "upper bound of that change is below zero; of upgrades that change nothing, one in twenty is so by luck. Better, "
    "proven: the 95 % lower bound of a full backfill's gain is above zero; beside it the conditions that it fails."
)


def _judged(found: UpgradeFigures) -> Iterator[tuple[str, TableCell]]:
    """Yield the rows of a contender."""
    yield "Upgrades", TableCell(f"{found.upgrades:,}")
    yield "Promoted", TableCell(found.promoted.words)
    yield "Some way passes", TableCell(found.some_way.words)
    yield "of these, without a row re-embedded", TableCell(found.untouched.words)
    yield "Full backfill passes", TableCell(found.backfill.words)
    yield "and without a row re-embedded, one query model", TableCell(found.one_model.words)
    yield "and without a row re-embedded, up to two", TableCell(found.two_models.words)
    stopped = ", ".join(f"{name} {count}" for name, count in found.stopped.items())
    yield "Rejected, of these a backfill proven better", TableCell(found.better_but_rejected.words, stopped)
    yield "Gain of a full backfill", TableCell(points(found.gain))
    for way, kept in found.kept.items():
        if way in {"keep", "adapt", "merge"} or not math.isnan(kept.value):
            ends = f"{_whole(kept.value - kept.half)} to {_whole(kept.value + kept.half)}"
            small = "" if math.isnan(kept.half) else ends
            yield f"Share of that gain by {way}, %", TableCell(_whole(kept.value), small)
    yield "Old items under the promoted way", TableCell(points(found.old_change))
    yield "of these upgrades, not below the status quo", TableCell(found.old_held.words)
    for way, lost in found.lost.items():
        if way != "partial" or not math.isnan(lost):
            yield f"Queries lost by {way}, %", TableCell(percent(lost))
    yield "Test queries under the promoted way", TableCell(points(found.test_change))
    yield "of these upgrades, worse", TableCell(found.test_worse.words)
    yield "of these upgrades, worse, proven", TableCell(found.test_proven_worse.words)


def _whole(share: float) -> str:
    """Return a share in whole percent, with a true minus."""
    return percent(share, digits=0).replace("-", MINUS)


def promoted_cost_table(comparison: Comparison) -> Table:
    """Return what the promoted upgrades of all profiles cost."""
    names = comparison.contenders()
    each = [figures_of_upgrades(comparison, name) for name in names]
    costs = {way: [found.cost[way] for found in each] for way in WAYS}
    return Table(
        title="Cost of promoted upgrades",
        head=("Promoted under", *(marked(comparison, name) for name in names)),
        rows={
            way: tuple(map(_in_words, row)) for way, row in {**costs, "any": [one.total_cost for one in each]}.items()
        },
        note=(
            "Upgrades promoted under a way, of all that are promoted, and in the last row of all; beside it the share "
            "of the gallery's rows that are re-embedded, and the mean number of models that embed a query."
        ),
    )


def _in_words(cost: Cost) -> TableCell:
    if not cost.promoted.true:
        return TableCell(cost.promoted.words)
    return TableCell(cost.promoted.words, f"{percent(cost.rows, digits=0)} % of rows, {cost.query_models:.1f} models")
