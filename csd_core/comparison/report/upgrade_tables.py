"""What an upgrade means for old items, and how often something is so."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from csd_core.comparison.report.tables import Table, TableCell, marked, mean_and_deviation, spread_of
from csd_core.comparison.results.columns import over_upgrades
from csd_core.comparison.results.figures import Comparison, Measured
from csd_core.report.narrative import DASH

RECALLS = {
    "Status quo": "gate_self",
    "Cross-test, raw": "gate_cross",
    "Cross-test, adapted": "gate_adapted",
}
PASSES = {f"Gate passes {strategy}": f"would_pass_{strategy}" for strategy in ("keep", "adapt", "backfill")}
PASSES_NONE = "Gate passes none"
TRUTHS = {
    "ECC keep": "ecc_keep",
    "ECC adapt": "ecc_adapt",
    "ECC keep, bound": "ecc_keep_bound",
    "ECC adapt, bound": "ecc_adapt_bound",
    **PASSES,
}
"""Heads -> measures that are true above 0."""


def upgrade_table(comparison: Comparison, profile: str, after: str | None = None) -> Table:
    """Return how old items are found after an upgrade, or after all of them, and what the gate would have said."""
    tasks = comparison.tasks(profile) if after is None else (after,)
    rows = []
    for name in comparison.contenders(profile):
        cells = list(comparison.runs(profile, name).values())
        recalls = [mean_and_deviation(spread_of(cells, over_upgrades(measure, tasks))) for measure in RECALLS.values()]
        rows.append((name, (*recalls, *(how_often(cells, measure, tasks) for measure in TRUTHS.values()))))
    when = "mean over upgrades" if after is None else f"upgrade to {after}"
    return Table(
        title=f"{profile}: old items searched in the stored vectors, {when}",
        head=("Contender", *RECALLS, *TRUTHS),
        rows=tuple(rows),
        notes=(
            (
                "Recall@1 in percent on gate queries. ECC: more is found than the previous model found there; "
                "bound: the lower end of the difference's interval is above zero too. Counts are over seeds and "
                "upgrades."
            ),
        ),
    )


def how_often(cells: Iterable[Measured], measure: str, tasks: Sequence[str] | None = None) -> TableCell:
    """After how many upgrades a measure is above 0, over all cells: after all upgrades, or those of some tasks."""
    told = (cell.at(measure, task) for cell in cells for task in (cell.tasks if tasks is None else tasks))
    return counted(value > 0 for value in told if value is not None)


def counted(told: Iterable[bool]) -> TableCell:
    """Return how many of them are true."""
    known = list(told)
    return TableCell(words=f"{sum(known):,}/{len(known):,}" if known else DASH)


# --- over all profiles ------------------------------------------------------------------------------------------------


def count_table(comparison: Comparison) -> Table:
    """Return how often features forget less than the classifier, upgrades find more and the gate is content."""
    rows = []
    for name in comparison.contenders():
        runs = (comparison.runs(profile, name).values() for profile in comparison.profiles)
        rows.append((marked(comparison, name), _counts(list(chain.from_iterable(runs)))))
    rows.append(("all", _counts(list(comparison.cells.values()))))
    return Table(
        title="all profiles: how often, over cells and over upgrades",
        head=("Contender", *(f"Features forget less, {where}" for where in ("own", "all")), *TRUTHS, PASSES_NONE),
        rows=tuple(rows),
        notes=(
            (
                "Cells in which the Recall@1 of features falls by less than the accuracy of the classifier, on each "
                "task alone and over everything seen; upgrades after which more old items are found than before (ECC), "
                "with the lower end of the difference's interval above zero (bound), and those that pass the gate, "
                "over all profiles and seeds."
            ),
        ),
    )


def _counts(cells: Sequence[Measured]) -> tuple[TableCell, ...]:
    return (
        *(counted(_features_forget_less(cells, which)) for which in ("own", "seen")),
        *(how_often(cells, measure) for measure in TRUTHS.values()),
        counted(_passes_none(cells)),
    )


def _features_forget_less(cells: Iterable[Measured], which: str) -> Iterator[bool]:
    """Of each cell with a task that could be forgotten."""
    for cell in cells:
        recall, accuracy = (cell.at(f"forgetting_{which}_{what}") for what in ("recall", "accuracy"))
        if recall is not None and accuracy is not None:
            yield recall < accuracy


def _passes_none(cells: Iterable[Measured]) -> Iterator[bool]:
    """Of each upgrade."""
    for cell in cells:
        for task in cell.tasks:
            told = [value for measure in PASSES.values() if (value := cell.at(measure, task)) is not None]
            if told:
                yield not any(value > 0 for value in told)
