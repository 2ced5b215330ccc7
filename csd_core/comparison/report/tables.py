"""The tables of a comparison, as both the page and the Markdown file show them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import pandas as pd

from csd_core.comparison.results.columns import COLUMNS, UPGRADE_COLUMNS, UPPER_BOUNDS, Column
from csd_core.comparison.results.figures import Comparison, matching, part
from csd_core.comparison.results.intervals import Difference, compare, deviation, mean
from csd_core.comparison.results.table import RUN
from csd_core.report.narrative import DASH, plain

UPPER_BOUND = "‡"
TRIVIAL = "†"
DECIDED = "*"


class TableCell(NamedTuple):
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
        rows: Name -> entries.
        note: What marks in it mean, in paragraphs.
    """

    title: str
    head: tuple[str, ...]
    rows: dict[str, tuple[TableCell, ...]]
    note: str = ""

    def markdown(self) -> str:
        """Return the table with its title and notes."""
        body = [(name, *map(_in_markdown, entries)) for name, entries in self.rows.items()]
        lines = [self.head, ("---", *["---:"] * (len(self.head) - 1)), *body]
        table = "\n".join("| " + " | ".join(each.replace("|", "\\|") for each in line) + " |" for line in lines)
        return "\n\n".join(filter(None, [f"**{self.title}**", table, self.note]))


def _in_markdown(entry: TableCell) -> str:
    words = f"**{entry.words}**" if entry.best else entry.words
    return f"{words} ({entry.small})" if entry.small else words


def rows_of(words: pd.DataFrame) -> dict[str, tuple[TableCell, ...]]:
    """Return the rows of a table whose entries are only words."""
    return {name: tuple(map(TableCell, row)) for name, *row in words.itertuples()}


def heads(columns: Sequence[Column]) -> tuple[str, ...]:
    """Return what stands above the columns."""
    return tuple(column.head for column in columns)


# --- a profile --------------------------------------------------------------------------------------------------------


def profile_table(comparison: Comparison, profile: str) -> Table:
    """Return the paper's table: mean and standard deviation over seeds of every measure, in percent or points.

    The best are those that print like the best mean of all seeds; none is, if all competitors print alike.
    """
    names = comparison.contenders(profile)
    methods = pd.Series(comparison.methods)[[*names]]
    runs = part(comparison.figures, profile).groupby("contender")
    means, counts, words = runs.agg(mean), runs.count(), mean_and_deviation(runs)
    entries = {}
    for _, figure, better, trivial in COLUMNS:
        everyone = counts[figure] == counts[figure].max()  # one lucky seed is no best mean
        competing = means.loc[everyone & ~methods.isin(trivial | UPPER_BOUNDS), figure].dropna()
        printed = competing.sort_values(ascending=better == "lower").map(plain)
        best = printed == printed.iloc[0] if len(set(printed)) > 1 else {}
        mark = (methods.isin(trivial) & (counts[figure] > 0)).map({True: f" {TRIVIAL}", False: ""})
        entries[figure] = {
            name: TableCell(words.loc[name, figure] + mark[name], best=bool(best.get(name))) for name in names
        }
    notes = []
    if UPPER_BOUNDS & set(methods):
        notes.append(
            f"{UPPER_BOUND} trains on the images of all tasks: an upper bound, which does not compete for the best."
        )
    if any(TRIVIAL in entry.words for column in entries.values() for entry in column.values()):
        notes.append(f"{TRIVIAL} follows from a backbone that never changes, and does not compete for the best.")
    return Table(
        title=f"{profile}: mean ± standard deviation over seeds, best mean of all seeds in bold",
        head=("Contender", *heads(COLUMNS), "Seeds"),
        rows={
            marked(comparison, name): (
                *(column[name] for column in entries.values()),
                TableCell(str(runs.size()[name])),
            )
            for name in names
        },
        note="\n\n".join(notes),
    )


def mean_and_deviation(runs: pd.api.typing.DataFrameGroupBy) -> pd.DataFrame:
    """Return mean and standard deviation of groups of runs, in percent or points."""
    words = runs.agg(mean).map(plain).astype(str) + " ± " + runs.agg(deviation).map(plain).astype(str)
    return words.where(runs.count() > 0, DASH)


def marked(comparison: Comparison, name: str) -> str:
    """Return a contender's name, with a mark if it is an upper bound."""
    return f"{name} {UPPER_BOUND}" if comparison.methods[name] in UPPER_BOUNDS else name


# --- against the reference --------------------------------------------------------------------------------------------


def difference_table(comparison: Comparison, profile: str | None = None) -> Table:
    """Return each contender less the reference, paired by seed, on a profile or over all of them."""
    columns = (*COLUMNS, *UPGRADE_COLUMNS)
    reference = comparison.reference
    over = "(profile, seed)" if profile is None else "seed"
    where = "all profiles" if profile is None else profile
    found = comparison.pooled if profile is None else compare(part(comparison.differences, profile))
    return Table(
        title=f"{where}: contender less {reference}, paired by {over}",
        head=("Contender", *heads(columns)),
        rows={
            marked(comparison, name): tuple(_in_words(found.get((name, column.figure)), column) for column in columns)
            for name in comparison.contenders(profile)
            if name != reference
        },
        note=(
            "Points; beside them the 95 % t-interval of the mean, and in how many pairs the contender's figure is "
            f"above {reference}'s. {DECIDED}: the interval leaves zero out. Each interval stands for itself; "
            "nothing is corrected for their number."
        ),
    )


def _in_words(found: Difference | None, column: Column) -> TableCell:
    if not found or not found.pairs:
        return TableCell(DASH)
    words = plain(found.mean)
    signed = f"+{words}" if found.mean > 0 and float(words) else words
    if not found.decided:
        return TableCell(signed, found.small(plain))
    better = (found.mean > 0) == (column.better == "higher")
    return TableCell(signed + DECIDED, found.small(plain), tone="good" if better else "bad")


# --- cost -------------------------------------------------------------------------------------------------------------


def cost_table(comparison: Comparison) -> Table:
    """Seconds of training in later stages, relative to finetuning in the same cell's place."""
    baseline = "finetune" if "finetune" in comparison.contenders() else comparison.reference
    rows = comparison.results
    later = rows[(rows["stage"] > 0) & rows["measure"].isin(["train_seconds", "train_images"])]
    stages = later.pivot_table(index=[*RUN, "after"], columns="measure", values="value")
    stages = stages.reindex(columns=["train_seconds", "train_images"]).where(lambda found: found > 0).dropna()
    stages["per_image"] = stages["train_seconds"] / stages["train_images"]
    times = stages / matching(stages, baseline)
    return Table(
        title=f"Cost of a later training stage, relative to {baseline}",
        head=(
            "Contender",
            "Images per stage",
            f"Time per image / {baseline}",
            f"Time per stage / {baseline}",
            "Stages",
        ),
        rows={
            marked(comparison, name): (
                TableCell(f"{seen.mean():,.0f}" if len(seen) else DASH),
                *(_times(part(times, contender=name)[which]) for which in ("per_image", "train_seconds")),
                TableCell(str(len(seen))),
            )
            for name in comparison.contenders()
            for seen in [part(stages, contender=name)["train_images"]]
        },
        note=(
            "Wall clock of stages that really ran, median and quartiles. Other work ran beside them, and cells may "
            "have run at other times or on other machines: an indication; a benchmark measures all in one run. "
            "Stages whose result came from the cache are not counted."
        ),
    )


def _times(ratios: pd.Series) -> TableCell:
    """Median and quartiles: clocks of different loads make outliers that a mean would follow."""
    known = ratios.dropna()
    low, median, high = known.quantile([0.25, 0.5, 0.75])
    if known.empty:
        return TableCell(DASH)
    return TableCell(f"{median:.2f}", f"{low:.2f} to {high:.2f}" if len(known) > 1 else "")
