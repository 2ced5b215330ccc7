"""A candidate that waits for a decision: what may be chosen, what the gate made of each, and the figures in a table."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from csd_core.params.upgrade import FIRST_MODEL, Strategy
from csd_core.records.check import Alternative, CheckReport, Measurement, most_found
from csd_core.records.stages import ShardRecord
from csd_core.records.verdict import Promoted, Verdict, Way, way_of
from csd_core.report.advice.task import Advice
from csd_core.report.charts.reviews import Row
from csd_core.report.narrative import count

Line = Mapping[str, str | float | None]
"""A row of a table, by column."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """A strategy that a person might choose.

    Attributes:
        strategy: Its kind.
        alternative: As it would be served; None where it cannot be chosen.
        why_not: Why it cannot be chosen; empty where it can.
    """

    strategy: Strategy
    alternative: Alternative | None
    why_not: str

    @property
    def choice(self) -> str:
        """What a person writes to choose it."""
        return choice_of(self.strategy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A candidate that waits for a decision.

    Attributes:
        report: The check's.
        verdict: The gate's, or what an operator's decision made of it.
        arrived: The task's data.
        tasks: Those with gate queries, in order of arrival.
        old_rows: Rows of the gallery before.
        new_rows: Rows that join it.
        options: What a person might choose, cheapest first.
        advice: Warnings, and what to do about a rejection.
    """

    report: CheckReport
    verdict: Verdict
    arrived: ShardRecord
    tasks: tuple[str, ...]
    old_rows: int
    new_rows: int
    options: tuple[Option, ...]
    advice: Advice

    @property
    def chosen(self) -> Alternative | None:
        """How the candidate would be served; None where it is rejected."""
        verdict = self.verdict
        if not isinstance(verdict, Promoted):
            return None
        return alternative_of(self.report, verdict.strategy, verdict.share)

    @property
    def nearest(self) -> Alternative | None:
        """How the candidate would be served, or else the least bad way: the one that finds most; None for none."""
        return self.chosen or most_found(self.report.alternatives)


def choice_of(strategy: Strategy) -> str:
    """Return the choice of a review that serves the candidate under a strategy."""
    return FIRST_MODEL if strategy == "none" else strategy


def alternative_of(report: CheckReport, strategy: Strategy, share: float | None) -> Alternative:
    """Return a strategy as it was measured."""
    return next(each for each in report.alternatives if (each.strategy, each.share) == (strategy, share))


def recall_of(alternative: Alternative) -> float:
    """Recall@1 of all gate queries; 0 where it cannot be served."""
    return alternative.measured.overall.at[1] if alternative.measured else 0.0


def failed_in(way: Way) -> list[str]:
    """Return the conditions that a way to serve fails, in words."""
    return [condition.words for condition in way.failed]


def first_of(failed: Sequence[str]) -> str:
    """Return the first of some failed conditions, and how many more there are."""
    more = f" (and {count(len(failed) - 1, 'more condition')})" if len(failed) > 1 else ""
    return f"{failed[0]}{more}"


def standing(alternative: Alternative, case: Case) -> tuple[str, str]:
    """Return whether a way to serve passes the gate, and why not; the gate judges few ways."""
    if alternative.why_not:
        return "no", alternative.why_not
    way = way_of(case.verdict, alternative)
    if way is None or not way.judged:
        return "not judged", (way.why_not if way else None) or ""
    failed = failed_in(way)
    return ("no", first_of(failed)) if failed else ("yes", "")


def rows_of(case: Case) -> Iterator[Row]:
    """Yield the heat map's rows; what would be served is marked."""
    if case.report.status_quo:
        stays = case.chosen is None
        yield Row(
            name="status quo",
            measured=case.report.status_quo,
            outcome="stays" if stays else "today",
            marked=stays,
        )
    for alternative in case.report.alternatives:
        chosen = alternative is case.chosen
        passes = standing(alternative, case)[0]
        outcome = {"yes": "passes", "no": "fails" if alternative.possible else "impossible"}.get(passes, passes)
        yield Row(
            name=alternative.name,
            measured=alternative.measured,
            outcome=f"{outcome}, chosen" if chosen else outcome,
            marked=chosen,
        )


def table_of(case: Case) -> Iterator[Line]:
    """Yield the status quo and each way to serve; the only names from users' data in it are tasks'."""
    if case.report.status_quo:
        yield _line("status quo", case.report.status_quo, None, None, passes="", why_not="")
    for each in case.report.alternatives:
        passes, why_not = standing(each, case)
        yield _line(each.name, each.measured, each, way_of(case.verdict, each), passes=passes, why_not=why_not)


def _line(
    name: str,
    measured: Measurement | None,
    alternative: Alternative | None,
    way: Way | None,
    *,
    passes: str,
    why_not: str,
) -> Line:
    """Return a row of the table; what matters most comes first, for a page may cut it off at its right."""
    possible = alternative is None or alternative.possible
    cost, on_select = (way.cost, way.on_select) if way else (None, None)
    pairs = alternative.against_status_quo.get("overall") if alternative else None
    return {
        "strategy": name,
        "passes": passes,
        "all %": _in_percent(measured.overall.recall_at_1 if measured else None),
        "old %": _in_percent(measured.old.recall_at_1 if measured and measured.old else None),
        "new %": _in_percent(measured.new.recall_at_1 if measured and measured.new else None),
        "lost %": _in_percent(pairs.lost / pairs.queries if pairs and pairs.queries else None),
        "gained %": _in_percent(pairs.gained / pairs.queries if pairs and pairs.queries else None),
        "embedded": alternative.rows_embedded if alternative and possible else None,
        "mapped": alternative.rows_mapped if alternative and possible else None,
        "select %": _in_percent(on_select.recall if on_select else None),
        "query models": cost.query_models if cost else None,
        "searches": cost.searches if cost else None,
        "bytes a row": cost.row_bytes if cost else None,
        "possible": "yes" if possible else "no",
        "why not": why_not,
    }


def _in_percent(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 1)
