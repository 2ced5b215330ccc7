"""The tables of a comparison, as both the page and the Markdown file show them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from csd_core.comparison.results.columns import COLUMNS, UPGRADE_COLUMNS, UPPER_BOUNDS, Column, Of
from csd_core.comparison.results.figures import Comparison, Measured
from csd_core.comparison.results.intervals import Difference, Spread, difference, spread
from csd_core.report.narrative import DASH, plain

UPPER_BOUND = "‡"
TRIVIAL = "†"
DECIDED = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class TableCell:
    """A cell of a table.

    Attributes:
        words: Its figure.
        small: What stands below it, or in brackets behind.
        best: Whether it is the best of its column.
        tone: Whether a difference is clearly to the better or to the worse.
    """

    words: str
    small: str = ""
    best: bool = False
    tone: Literal["", "good", "bad"] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows with names, columns with heads.

    Attributes:
        title: What it shows; unique in a report.
        head: Of the names, then of each column.
        rows: Name and entries.
        notes: What marks in it mean; empty where it has none.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, tuple[TableCell, ...]], ...]
    notes: tuple[str, ...] = ()

    def markdown(self) -> str:
        """Return the table with its title and notes."""
        body = [(name, *map(_in_markdown, entries)) for name, entries in self.rows]
        lines = [self.head, ("---", *["---:"] * (len(self.head) - 1)), *body]
        table = "\n".join("| " + " | ".join(each.replace("|", "\\|") for each in line) + " |" for line in lines)
        return "\n\n".join([f"**{self.title}**", table, *self.notes])


def _in_markdown(entry: TableCell) -> str:
    words = f"**{entry.words}**" if entry.best else entry.words
    return f"{words} ({entry.small})" if entry.small else words


# --- a profile --------------------------------------------------------------------------------------------------------


def profile_table(comparison: Comparison, profile: str) -> Table:
    """Return the paper's table: mean and standard deviation over seeds of every measure, in percent or points."""
    names = comparison.contenders(profile)
    methods = [comparison.methods[name] for name in names]
    runs = {name: list(comparison.runs(profile, name).values()) for name in names}
    found = [[spread_of(runs[name], column.of) for name in names] for column in COLUMNS]
    shown = [_judged(column, each, methods) for column, each in zip(COLUMNS, found, strict=True)]
    notes = []
    if UPPER_BOUNDS & set(methods):
        notes.append(
            f"{UPPER_BOUND} trains on the images of all tasks: an upper bound, which does not compete for the best."
        )
    if any(TRIVIAL in entry.words for column in shown for entry in column):
        notes.append(f"{TRIVIAL} follows from a backbone that never changes, and does not compete for the best.")
    return Table(
        title=f"{profile}: mean ± standard deviation over seeds, best mean of all seeds in bold",
        head=("Contender", *(column.head for column in COLUMNS), "Seeds"),
        rows=tuple(
            (
                marked(comparison, name),
                (*(entries[place] for entries in shown), TableCell(words=str(len(runs[name])))),
            )
            for place, name in enumerate(names)
        ),
        notes=tuple(notes),
    )


def _judged(column: Column, found: Sequence[Spread | None], methods: Sequence[str]) -> list[TableCell]:
    """Return a column's entries; those that compete and print like the best one are marked, unless all do.

    Those with fewer seeds than others do not compete: one lucky seed is no best mean.
    """
    out = column.trivial | UPPER_BOUNDS
    seeds = max((each.count for each in found if each), default=0)
    means = [
        each.mean
        for each, method in zip(found, methods, strict=True)
        if each and method not in out and each.count == seeds
    ]
    best = plain(max(means) if column.better == "higher" else min(means)) if means else ""
    telling = len({plain(mean) for mean in means}) > 1
    entries = []
    for each, method in zip(found, methods, strict=True):
        entry = mean_and_deviation(each)
        if each and method in column.trivial:
            entry = replace(entry, words=f"{entry.words} {TRIVIAL}")
        competes = each is not None and method not in out and each.count == seeds
        first = telling and competes and each is not None and plain(each.mean) == best
        entries.append(replace(entry, best=first))
    return entries


def spread_of(cells: Sequence[Measured], of: Of) -> Spread | None:
    """Mean and deviation of a figure over the cells that have it."""
    return spread([value for cell in cells if (value := of(cell)) is not None])


def mean_and_deviation(found: Spread | None) -> TableCell:
    """In percent or points."""
    return TableCell(words=DASH if found is None else f"{plain(found.mean)} ± {plain(found.deviation)}")


def marked(comparison: Comparison, name: str) -> str:
    """Return a contender's name, with a mark if it is an upper bound."""
    bound = comparison.methods[name] in UPPER_BOUNDS
    return f"{name} {UPPER_BOUND}" if bound else name


# --- against the reference --------------------------------------------------------------------------------------------


def difference_table(comparison: Comparison, profile: str | None = None) -> Table:
    """Return each contender less the reference, paired by seed, on a profile or over all of them."""
    columns = (*COLUMNS, *UPGRADE_COLUMNS)
    reference = comparison.reference
    names = [name for name in comparison.contenders(profile) if name != reference]
    over = "(profile, seed)" if profile is None else "seed"
    where = "all profiles" if profile is None else profile
    return Table(
        title=f"{where}: contender less {reference}, paired by {over}",
        head=("Contender", *(column.head for column in columns)),
        rows=tuple(
            (
                marked(comparison, name),
                tuple(_in_words(against(comparison, name, column, profile), column) for column in columns),
            )
            for name in names
        ),
        notes=(
            (
                "Points; beside them the 95 % t-interval of the mean, and in how many pairs the contender's figure is "
                f"above {reference}'s. {DECIDED}: the interval leaves zero out. Each interval stands for itself; "
                "nothing is corrected for their number."
            ),
        ),
    )


def against(comparison: Comparison, name: str, column: Column, profile: str | None = None) -> Difference | None:
    """Return a contender's figure less the reference's, over the cells that both have."""
    found = ((column.of(mine), column.of(theirs)) for mine, theirs in comparison.pairs(name, profile))
    return difference([(mine, theirs) for mine, theirs in found if mine is not None and theirs is not None])


def _in_words(found: Difference | None, column: Column) -> TableCell:
    if found is None:
        return TableCell(words=DASH)
    interval = "" if found.low is None else f"{plain(found.low)} to {plain(found.high)}; "
    if not found.decided:
        return TableCell(words=_signed(found.mean), small=f"{interval}{found.positive}/{found.pairs}")
    return TableCell(
        words=_signed(found.mean) + DECIDED,
        small=f"{interval}{found.positive}/{found.pairs}",
        tone="good" if column.improves(found.mean) else "bad",
    )


def _signed(value: float) -> str:
    words = plain(value)
    return f"+{words}" if value > 0 and float(words) else words


# --- cost -------------------------------------------------------------------------------------------------------------


def cost_table(comparison: Comparison) -> Table:
    """Seconds of training in later stages, relative to finetuning in the same cell's place."""
    baseline = "finetune" if "finetune" in comparison.contenders() else comparison.reference
    rows = []
    for name in comparison.contenders():
        images, per_image, per_stage = [], [], []
        for profile in comparison.profiles:
            theirs = comparison.runs(profile, baseline)
            for seed, cell in comparison.runs(profile, name).items():
                for task in comparison.tasks(profile)[1:]:
                    mine = _seconds(cell, task)
                    if mine is None:
                        continue
                    images.append(mine[1])
                    base = _seconds(theirs[seed], task) if seed in theirs else None
                    if base is not None:
                        per_image.append(mine[0] / mine[1] / (base[0] / base[1]))
                        per_stage.append(mine[0] / base[0])
        seen = spread(images)
        rows.append(
            (
                marked(comparison, name),
                (
                    TableCell(words=DASH if seen is None else f"{seen.mean:,.0f}"),
                    _times(per_image),
                    _times(per_stage),
                    TableCell(words=str(len(images))),
                ),
            )
        )
    return Table(
        title=f"Cost of a later training stage, relative to {baseline}",
        head=(
            "Contender",
            "Images per stage",
            f"Time per image / {baseline}",
            f"Time per stage / {baseline}",
            "Stages",
        ),
        rows=tuple(rows),
        notes=(
            (
                "Wall clock of stages that really ran, median and quartiles. Other work ran beside them, and cells may "
                "have run at other times or on other machines: an indication; a benchmark measures all in one run. "
                "Stages whose result came from the cache are not counted."
            ),
        ),
    )


def _seconds(cell: Measured, task: str) -> tuple[float, float] | None:
    """Seconds and images of a training stage, both above 0."""
    seconds, images = cell.at("train_seconds", task), cell.at("train_images", task)
    return (seconds, images) if seconds and images else None


def _times(ratios: Sequence[float]) -> TableCell:
    """Median and quartiles: clocks of different loads make outliers that a mean would follow."""
    if not ratios:
        return TableCell(words=DASH)
    low, median, high = (float(each) for each in np.quantile(ratios, (0.25, 0.5, 0.75)))
    return TableCell(words=f"{median:.2f}", small=f"{low:.2f} to {high:.2f}" if len(ratios) > 1 else "")
