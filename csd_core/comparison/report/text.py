"""A comparison in words: every sentence follows from figures."""

from collections.abc import Iterable

from csd_core.comparison.report.upgrade_tables import features_less_classifier
from csd_core.comparison.results.columns import NAMED
from csd_core.comparison.results.figures import Comparison, part
from csd_core.comparison.results.intervals import DIGITS, mean
from csd_core.comparison.results.upgrade_figures import figures_of_upgrades
from csd_core.comparison.running.runs import Cell
from csd_core.report.narrative import DASH, count, percent, points

ALL_SEEN = NAMED["All seen"]


def headline(comparison: Comparison) -> str:
    """Return what was compared, in a line."""
    contenders = count(len(comparison.contenders()), "contender").capitalize()
    return f"{contenders} on {count(len(comparison.profiles), 'profile')}"


def sentences(comparison: Comparison) -> tuple[str, ...]:
    """Return what has run and with what, who finds more, what forgets less, what became of old items."""
    told = (
        _ran(comparison),
        _outdated(comparison),
        _judged(comparison),
        _against(comparison),
        _forgetting(comparison),
        _old_items(comparison),
    )
    return tuple(sentence for sentence in told if sentence)


def _ran(comparison: Comparison) -> str:
    planned, missing = len(comparison.planned), len(comparison.missing)
    if not missing:
        return f"All {planned:,} cells have run: every contender was trained along the whole line of tasks."
    return f"{not_run(comparison)}; {'it is' if missing == 1 else 'they are'} named at the end."


def not_run(comparison: Comparison) -> str:
    """Return how many of the planned cells have not run."""
    missing = len(comparison.missing)
    return f"{missing:,} of {len(comparison.planned):,} cells {'has' if missing == 1 else 'have'} not run"


def _outdated(comparison: Comparison) -> str:
    cells = len(comparison.outdated)
    if not cells:
        return ""
    return f"{outdated(comparison)} than are planned now; {'it is' if cells == 1 else 'they are'} named at the end."


def _judged(comparison: Comparison) -> str:
    """Return how many upgrades the gate promotes, what they need, and how many were a mistake."""
    every = figures_of_upgrades(comparison)
    if not every.promoted.of:
        return ""
    each = (f"{name} {figures_of_upgrades(comparison, name).promoted.words}" for name in comparison.contenders())
    parts = [f"The gate promotes {every.promoted.words} upgrades ({', '.join(each)})"]
    if every.two_models.of:
        parts.append(
            f"of those whose full backfill passes, {every.two_models.words} pass without a row re-embedded too"
        )
    if every.test_worse.of:
        parts.append(f"of the promoted ones, {every.test_proven_worse.words} are proven worse by test queries")
    return f"{'; '.join(parts)}."


def _against(comparison: Comparison) -> str:
    """Whose all-seen recall is clearly above or below the reference's."""
    groups: dict[str, list[str]] = {"above": [], "below": [], "open": []}
    for name in comparison.contenders():
        found = comparison.pooled.get((name, ALL_SEEN.figure))
        if found and found.pairs and name != comparison.reference:
            words = f"{name} ({points(found.mean)})"
            groups["open" if not found.decided else "above" if found.mean > 0 else "below"].append(words)
    parts = [
        f"{say}: {', '.join(groups[group])}"
        for group, say in (("below", "less"), ("above", "more"), ("open", "undecided"))
        if groups[group]
    ]
    if not parts:
        return ""
    return (
        f"Over everything seen after the last task, who finds more or less than {comparison.reference}, in points of "
        f"Recall@1 over all profiles and seeds, by 95 % intervals. {'; '.join(parts).capitalize()}."
    )


def _forgetting(comparison: Comparison) -> str:
    """Return how often features forget less than classifiers, like with like."""
    told = []
    for which, where in (("own", "within a task"), ("seen", "over everything seen")):
        means = features_less_classifier(comparison.figures, which).groupby(["profile", "contender"]).agg(mean)
        if len(means):
            told.append(f"in {(means < 0).sum()} of {len(means)} cases {where}")
    if not told:
        return ""
    return (
        "Of each contender on each profile, the features forget less in retrieval than the classifier does in "
        f"classification {' and '.join(told)}."
    )


def _old_items(comparison: Comparison) -> str:
    """Return what the reference's upgrades do to old items, against the status quo."""
    found = part(comparison.figures, contender=comparison.reference)
    quo = found["gate_self"]
    raw, adapted = (points(mean((found[measure] - quo).round(DIGITS))) for measure in ("gate_cross", "gate_adapted"))
    if raw == DASH:
        return ""
    sentence = (
        f"An upgrade by {comparison.reference} changes what is found of old items in the stored vectors by {raw} "
        f"points against the status quo of {percent(mean(quo))} %"
    )
    return f"{sentence}." if adapted == DASH else f"{sentence}, or by {adapted} with the vectors mapped."


def outdated(comparison: Comparison) -> str:
    """Return how many cells were measured with other parameters than are planned now."""
    cells = len(comparison.outdated)
    return f"{cells:,} of {len(comparison.figures):,} cells {'was' if cells == 1 else 'were'} run with other parameters"


def by_contender(cells: Iterable[Cell]) -> tuple[str, ...]:
    """Return names of cells, those of a profile and contender in a line."""
    seeds: dict[tuple[str, str], list[int]] = {}
    for cell in sorted(cells):
        seeds.setdefault((cell.profile, cell.contender), []).append(cell.seed)
    return tuple(
        f"{profile}/{contender}: {'seed' if len(each) == 1 else 'seeds'} {', '.join(map(str, each))}"
        for (profile, contender), each in seeds.items()
    )
