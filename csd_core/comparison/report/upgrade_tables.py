"""What an upgrade means for old items, and how often something is so."""

import pandas as pd

from csd_core.comparison.report.tables import Table, marked, mean_and_deviation, rows_of
from csd_core.comparison.results.figures import GATE, TRUTHS, Comparison, part
from csd_core.comparison.results.intervals import mean
from csd_core.comparison.results.table import RUN
from csd_core.report.narrative import DASH

TRUTH_HEADS = (
    *("ECC keep", "ECC adapt", "ECC keep, bound", "ECC adapt, bound"),
    *("Gate passes keep", "Gate passes adapt", "Gate passes merge", "Gate passes backfill"),
)


def upgrade_table(comparison: Comparison, profile: str, after: str | None = None) -> Table:
    """Return how old items are found after an upgrade, or after all of them, and what the gate would have said."""
    found = part(comparison.upgrades, profile, after=after)
    told = mean_and_deviation(found[[*GATE]].groupby(RUN).agg(mean).groupby("contender")).join(
        how_often(found[[*TRUTHS]])
    )
    when = "mean over upgrades" if after is None else f"upgrade to {after}"
    return Table(
        title=f"{profile}: old items searched in the stored vectors, {when}",
        head=("Contender", "Status quo", "Cross-test, raw", "Cross-test, adapted", *TRUTH_HEADS),
        rows=rows_of(told.reindex(comparison.contenders(profile), fill_value=DASH)[[*GATE, *TRUTHS[:-1]]]),
        note=(
            "Recall@1 in percent on gate queries. ECC: more is found than the previous model found there; "
            "bound: the lower end of the difference's interval is above zero too. Counts are over seeds and "
            "upgrades."
        ),
    )


def how_often(rows: pd.DataFrame) -> pd.DataFrame:
    """Return in how many of a contender's rows a figure is above 0, of those that have it."""
    true, known = (rows > 0).groupby("contender").sum(), rows.groupby("contender").count()
    words = true.map("{:,}".format).astype(str) + "/" + known.map("{:,}".format).astype(str)
    return words.where(known > 0, DASH)


# --- over all profiles ------------------------------------------------------------------------------------------------


def count_table(comparison: Comparison) -> Table:
    """Return how often features forget less than the classifier, upgrades find more and the gate is content."""
    less = pd.DataFrame({which: -features_less_classifier(comparison.figures, which) for which in ("own", "seen")})
    told = [
        how_often(pd.concat([rows, rows.rename(lambda _: "all", level="contender")]))
        for rows in (less, comparison.upgrades[[*TRUTHS]])
    ]
    names = comparison.contenders()
    counts = pd.concat(told, axis=1).reindex([*names, "all"]).fillna(DASH)
    return Table(
        title="all profiles: how often, over cells and over upgrades",
        head=(
            "Contender",
            *(f"Features forget less, {where}" for where in ("own", "all")),
            *TRUTH_HEADS,
            "Gate passes none",
        ),
        rows=rows_of(counts.set_axis([*(marked(comparison, name) for name in names), "all"])),
        note=(
            "Cells in which the Recall@1 of features falls by less than the accuracy of the classifier, on each "
            "task alone and over everything seen; upgrades after which more old items are found than before (ECC), "
            "with the lower end of the difference's interval above zero (bound), and those that pass the gate, "
            "over all profiles and seeds."
        ),
    )


def features_less_classifier(figures: pd.DataFrame, which: str) -> pd.Series:
    """Return what features forget less what the classifier forgets, of each run with a task to forget."""
    return (figures[f"forgetting_{which}_recall"] - figures[f"forgetting_{which}_accuracy"]).dropna()
