"""What the gate found, for a person at a terminal."""

from collections.abc import Iterable, Iterator, Mapping

from rich.table import Table

from csd_core.params.upgrade import Policy, Strategy
from csd_core.records.check import CheckReport, Cost, Measurement, Recalls
from csd_core.records.verdict import OnSelect, Promoted, Rejected, Way, outcome_in_words
from csd_core.report.advice.checked import warnings_of
from csd_core.report.advice.next_steps import Step, next_steps
from csd_core.report.advice.task import Advice, lines
from csd_core.system.console import echo, new_table, print_table
from csd_core.upgrade.gate_rules import points

FIGURES = ("all", "old", "new", "flips", "select", "embedded", "mapped", "models", "searches", "bytes")
HEAD = ("Recall@1", *FIGURES, "passes")
"""Columns, and those of them that hold figures."""


def print_findings(report: CheckReport, verdict: Promoted | Rejected, policy: Policy) -> None:
    """Print every way to serve the candidate, the verdict with its reasons, and what can be done about a rejection."""
    print_table(_table(rows_of(report, verdict)))
    test = report.cross_test
    if test:
        echo(
            f"cross-test: the new model's queries on the old rows {points(test.cross_test)}, the old model's "
            f"{points(test.self_test)}"
        )
    echo(outcome_in_words(verdict))
    for reason in verdict.reasons:
        echo(f"  {reason}")
    steps: tuple[Step, ...] = ()
    if isinstance(verdict, Rejected):
        steps = next_steps(report, verdict, policy, training=None, gate_share=None, place="alone")
    for line in lines(report, verdict, Advice(warnings=tuple(warnings_of(report)), steps=steps)):
        echo(line)


def rows_of(report: CheckReport, verdict: Promoted | Rejected) -> Iterator[tuple[str, ...]]:
    """Yield the cells of each way to serve the candidate, below HEAD; the status quo comes first."""
    ways: Mapping[tuple[Strategy, float | None], Way] = {(way.strategy, way.share): way for way in verdict.ways}
    if report.status_quo:
        quo = ("status quo", *_recalls(report.status_quo))
        yield (*quo, *[""] * (len(HEAD) - len(quo)))
    for each in report.alternatives:
        pairs, way = each.against_status_quo.get("overall"), ways[each.way]
        yield (
            each.name,
            *_recalls(each.measured),
            f"-{pairs.lost:,} +{pairs.gained:,}" if pairs else "",
            _on_select(way.on_select),
            *_costs(way.cost),
            _outcome(way),
        )


def _table(rows: Iterable[tuple[str, ...]]) -> Table:
    table = new_table()
    for name in HEAD:
        table.add_column(name, justify="right" if name in FIGURES else "left")
    for row in rows:
        table.add_row(*row)
    return table


def _recalls(measured: Measurement | None) -> tuple[str, str, str]:
    if measured is None:
        return ("", "", "")
    return (_recall(measured.overall), _recall(measured.old), _recall(measured.new))


def _recall(recalls: Recalls | None) -> str:
    recall = recalls.recall_at_1 if recalls else None
    return "" if recall is None else points(recall)


def _on_select(on_select: OnSelect | None) -> str:
    return "" if on_select is None or on_select.recall is None else points(on_select.recall)


def _costs(cost: Cost | None) -> Iterator[str]:
    """Yield rows embedded and mapped, and what a query and a row cost."""
    numbers = (
        (cost.rows_embedded, cost.rows_mapped, cost.query_models, cost.searches, cost.row_bytes) if cost else [None] * 5
    )
    yield from ("" if number is None else f"{number:,}" for number in numbers)


def _outcome(way: Way) -> str:
    """Return whether it passes, or the first condition that it fails; the reasons below the table have the words."""
    if way.cost is None:
        return "impossible"
    if not way.judged:
        return (way.why_not or "").partition(":")[0]
    return "yes" if way.passed else f"no: {way.failed[0].name}"
