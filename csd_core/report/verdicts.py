"""A verdict in words: what was decided and why, and what becomes of every stored vector."""

from csd_core.params.upgrade import AdapterMethod, Order
from csd_core.records.check import Alternative, CheckReport
from csd_core.records.verdict import Rejected, Way, decided_by_operator, left_out
from csd_core.report.data import TaskStory
from csd_core.report.narrative import SAME, count, fraction, percent

ORDERS: dict[Order, str] = {
    "random": "at random",
    "class": "class by class",
    "class-mean": "farthest from the class mean first",
    "residual": "worst mapped first",
}
"""Which rows a partial backfill takes first."""

ADAPTERS: dict[AdapterMethod, str] = {
    "procrustes": "rotation",
    "ridge": "ridge",
    "cca": "canonical",
    "orthogonal": "near-rotation",
    "drift": "local drift",
    "mlp": "MLP",
}
"""Kinds of adapters (docs/glossary.md)."""


def verdict_in_words(task: TaskStory) -> str:
    """Return the outcome with its strategy, or that more queries could turn it."""
    if isinstance(task.verdict, Rejected):
        if task.verdict.inconclusive:
            return "inconclusive: more queries could turn it"
        stays = "the champion stays" if task.generation is not None else "no champion yet"
        return f"{stays}: {task.verdict.outlook}" if task.verdict.outlook else stays
    if task.chosen is None or task.chosen.strategy == "none":
        return "first model; nothing to upgrade"
    return f"{task.chosen.name}: {rows_in_words(task.chosen, task.old_rows)}"


def rows_in_words(alternative: Alternative, rows: int) -> str:
    """Return what becomes of the stored vectors.

    Args:
        alternative: How a candidate would be served.
        rows: Of the old gallery.
    """
    made, mapped = alternative.rows_embedded, alternative.rows_mapped
    parts = [(made, "re-embedded"), (mapped, "mapped"), (rows - made - mapped, "left as it was")]
    match [(number, what) for number, what in parts if number]:
        case []:
            return "no stored vector to upgrade"
        case [(_, what)]:
            return f"every stored vector {what}"
        case [(number, what), (_, rest)]:
            return f"{fraction(number / rows)} of the stored vectors {what}, the rest {rest}"
        case several:
            return "of the stored vectors " + ", ".join(f"{number:,} {what}" for number, what in several)


def because(task: TaskStory) -> tuple[str, ...]:
    """Return what decided: why each cheaper strategy failed, how the chosen one did; a person's word comes first."""
    verdict, chosen, review = task.verdict, task.chosen, task.review
    decided = [decided_by_operator(verdict.decision)] if verdict.decision != "auto" and review is None else []
    if review is not None:
        decided.append(f"{review.by} decided: {review.choice} ({review.reason})")
    before: list[Way] = []
    for way in verdict.ways:
        if chosen and (way.strategy, way.share) == chosen.way:
            return (*decided, *left_out(before), f"{chosen.name} {judged_in_words(way)}")
        before.append(way)
        if way.failed:
            more = f" (and {count(len(way.failed) - 1, 'more condition')})" if len(way.failed) > 1 else ""
            decided.append(f"{way.name} fails: {way.failed[0].words}{more}")
    if not verdict.judged:
        decided += left_out(before)
    return tuple(decided)


def judged_in_words(way: Way) -> str:
    """Return what the gate made of a way to serve, in a phrase."""
    if way.why_not:
        return f"{'not judged' if way.cost else 'ruled out'}: {way.why_not}"
    if way.failed:
        return f"fails {count(len(way.failed), 'condition')} of {len(way.conditions)}"
    return f"meets {'its condition' if len(way.conditions) == 1 else f'all {len(way.conditions)} conditions'}"


def dip_in_words(check: CheckReport) -> str:
    """Return how far search falls below the status quo with a share of the rows re-embedded; empty if not measured."""
    if not check.during_backfill or check.status_quo is None:
        return ""
    quo = check.status_quo.overall.at[1]
    lowest = min(check.during_backfill, key=lambda point: point.merged)
    words = f"Merged search is lowest {_when(lowest.share)}, at {percent(lowest.merged)} %"
    fall = quo - lowest.merged
    words += f", {percent(fall)} points below the status quo" if fall > SAME else ", and never below the status quo"
    mixed = [(point.naive, point.share) for point in check.during_backfill if point.naive is not None]
    if not mixed:
        return f"{words}; the models' dimensions differ, so their vectors cannot be mixed."
    recall, share = min(mixed)
    return f"{words}; mixed search {_when(share)}, at {percent(recall)} %."


def _when(share: float) -> str:
    return "at the start" if share == 0 else "when all is done" if share == 1 else f"when {100 * share:g} % is done"
