"""What the gate found, for a person at a terminal."""

from rich.table import Table

from csd_core.records.check import Alternative, CheckReport, Measurement, Recalls
from csd_core.records.verdict import Judged, Promoted, Rejected, outcome_in_words
from csd_core.system.console import echo, new_table, print_table
from csd_core.upgrade.gate_rules import points


def print_findings(report: CheckReport, verdict: Promoted | Rejected) -> None:
    """Print every way to serve the candidate, and the verdict with its reasons."""
    print_table(_table(report, verdict.judged))
    test = report.cross_test
    if test:
        echo(
            f"cross-test: the new model's queries on the old rows {points(test.cross_test)}, the old model's "
            f"{points(test.self_test)}"
        )
    echo(outcome_in_words(verdict))
    for reason in verdict.reasons:
        echo(f"  {reason}")
    if isinstance(verdict, Rejected):
        more = "add images, for more queries may decide it" if verdict.inconclusive else "train longer"
        echo(f"Next: {more}, or judge it under another policy with --policy.")


def _table(report: CheckReport, judged: tuple[Judged, ...]) -> Table:
    table = new_table()
    table.add_column("Recall@1")
    for name in ("all", "old", "new", "flips", "embedded", "mapped"):
        table.add_column(name, justify="right")
    table.add_column("passes")
    if report.status_quo:
        table.add_row("status quo", *_recalls(report.status_quo))
    for each in report.alternatives:
        pairs = each.against_status_quo.get("overall")
        table.add_row(
            each.name,
            *_recalls(each.measured),
            f"-{pairs.lost:,} +{pairs.gained:,}" if pairs else "",
            *((f"{each.rows_embedded:,}", f"{each.rows_mapped:,}") if each.possible else ("", "")),
            _outcome(each, judged),
        )
    return table


def _recalls(measured: Measurement | None) -> tuple[str, str, str]:
    if measured is None:
        return ("", "", "")
    return (_recall(measured.overall), _recall(measured.old), _recall(measured.new))


def _recall(recalls: Recalls | None) -> str:
    recall = recalls.recall_at_1 if recalls else None
    return "" if recall is None else points(recall)


def _outcome(alternative: Alternative, judged: tuple[Judged, ...]) -> str:
    """Return whether it passes, or the first condition that it fails; the reasons below the table have the words."""
    if alternative.why_not:
        return "impossible"
    found = next(
        (each for each in judged if (each.strategy, each.share) == (alternative.strategy, alternative.share)), None
    )
    if found is None:
        return "not judged"
    if found.passed:
        return "yes"
    return "no: " + (found.why_not or next(each.name for each in found.conditions if not each.passed))
