"""A comparison in words: every sentence follows from figures."""

from collections.abc import Iterable, Iterator

from csd_core.comparison.report.tables import against
from csd_core.comparison.results.columns import COLUMNS, Column, over_upgrades
from csd_core.comparison.results.figures import Comparison, Measured
from csd_core.comparison.results.intervals import Spread, difference, spread
from csd_core.comparison.running.runs import Cell
from csd_core.report.narrative import count, percent, points

ALL_SEEN = next(column for column in COLUMNS if column.title == "All seen")


def headline(comparison: Comparison) -> str:
    """Return what was compared, in a line."""
    contenders = count(len(comparison.contenders()), "contender").capitalize()
    return f"{contenders} on {count(len(comparison.profiles), 'profile')}"


def sentences(comparison: Comparison) -> tuple[str, ...]:
    """Return what has run and with what, who finds more, what forgets less, what became of old items."""
    told = (
        _ran(comparison),
        _outdated(comparison),
        _against(comparison, ALL_SEEN),
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


def _against(comparison: Comparison, column: Column) -> str:
    """Whose all-seen recall is clearly above or below the reference's."""
    groups: dict[str, list[str]] = {"above": [], "below": [], "open": []}
    for name in comparison.contenders():
        found = against(comparison, name, column) if name != comparison.reference else None
        if found is None:
            continue
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
        less = [
            each.mean < 0
            for profile in comparison.profiles
            for name in comparison.contenders(profile)
            if (each := _features_less_classifier(comparison, profile, name, which)) is not None
        ]
        if less:
            told.append(f"in {sum(less)} of {len(less)} cases {where}")
    if not told:
        return ""
    return (
        "Of each contender on each profile, the features forget less in retrieval than the classifier does in "
        f"classification {' and '.join(told)}."
    )


def _features_less_classifier(comparison: Comparison, profile: str, name: str, which: str) -> Spread | None:
    pairs = (
        (cell.at(f"forgetting_{which}_recall"), cell.at(f"forgetting_{which}_accuracy"))
        for cell in comparison.runs(profile, name).values()
    )
    return spread([recall - accuracy for recall, accuracy in pairs if recall is not None and accuracy is not None])


def _old_items(comparison: Comparison) -> str:
    """Return what the reference's upgrades do to old items, against the status quo."""
    raw, adapted = (_change(comparison, measure) for measure in ("gate_cross", "gate_adapted"))
    quo = spread([value for cell in _references(comparison) if (value := over_upgrades("gate_self")(cell)) is not None])
    if raw is None or quo is None:
        return ""
    sentence = (
        f"An upgrade by {comparison.reference} changes what is found of old items in the stored vectors by {raw} "
        f"points against the status quo of {percent(quo.mean)} %"
    )
    return f"{sentence}, or by {adapted} with the vectors mapped." if adapted else f"{sentence}."


def _references(comparison: Comparison) -> Iterator[Measured]:
    for profile in comparison.profiles:
        yield from comparison.runs(profile, comparison.reference).values()


def _change(comparison: Comparison, measure: str) -> str | None:
    pairs = ((over_upgrades(measure)(cell), over_upgrades("gate_self")(cell)) for cell in _references(comparison))
    found = difference([(value, quo) for value, quo in pairs if value is not None and quo is not None])
    return None if found is None else points(found.mean)


def outdated(comparison: Comparison) -> str:
    """Return how many cells were measured with other parameters than are planned now."""
    cells = len(comparison.outdated)
    return f"{cells:,} of {len(comparison.cells):,} cells {'was' if cells == 1 else 'were'} run with other parameters"


def missing(comparison: Comparison) -> tuple[str, ...]:
    """Planned cells that have not run, those of a profile and contender in a line."""
    return by_contender(comparison.missing)


def by_contender(cells: Iterable[Cell]) -> tuple[str, ...]:
    """Return names of cells, those of a profile and contender in a line."""
    seeds: dict[tuple[str, str], list[int]] = {}
    for cell in sorted(cells):
        seeds.setdefault((cell.profile, cell.contender), []).append(cell.seed)
    return tuple(
        f"{profile}/{contender}: {'seed' if len(each) == 1 else 'seeds'} {', '.join(map(str, each))}"
        for (profile, contender), each in seeds.items()
    )
