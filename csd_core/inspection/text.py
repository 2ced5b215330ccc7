"""What was found in a folder, for a person at a terminal."""

from collections import Counter
from collections.abc import Sequence

from csd_core.inspection.estimate import Estimate
from csd_core.inspection.findings import Findings
from csd_core.system.console import duration, echo, show

MANY = 20
"""Classes that are shown one by one; of more, the largest and the smallest."""
ENDS = 8
BAR = 24
"""Characters of the longest bar."""
QUANTILES = (0.0, 0.1, 0.5, 0.9, 1.0)
REASONS = 8
"""Reasons of unusable files that are shown."""


def print_findings(findings: Findings) -> None:
    """Print counts, sizes and formats, copies, and unusable files with their reasons."""
    form, headers = findings.form, findings.headers
    colours = "grey" if form.channels == 1 else "RGB"
    echo(
        f"{findings.root}: {len(findings):,} images of {len(findings.classes):,} classes, layout "
        f"{findings.top.layout}; compared as they are stored: {form.size} x {form.size} {colours}, {form.resize}"
    )
    _print_classes(findings.classes)
    heads = ("least", "10 %", "median", "90 %", "most")
    rows = [
        (name, *(f"{each:,}" for each in headers.quantiles(side, QUANTILES)))
        for side, name in enumerate(("width", "height"))
    ]
    show(("pixels", *heads), rows, right=heads)
    facts = [
        ("formats", _tally(headers.formats)),
        ("modes", _tally(headers.modes) + (" (no image has colour)" if findings.grey else "")),
        ("transparent", f"{len(headers.transparent):,}, on {form.background}"),
        ("animated", f"{headers.animated:,}"),
        ("turned by EXIF", f"{headers.turned:,}"),
        ("copies", f"{len(findings.taken.duplicates):,} within a class, {len(findings.taken.conflicts):,} across"),
        (
            "near-duplicates",
            f"{findings.in_groups:,} images, {len(findings.across_classes):,} pairs across classes"
            + (f", {len(findings.across_sets):,} across train and test" if _has_test(findings) else ""),
        ),
        ("unusable files", f"{len(findings.unusable):,}"),
    ]
    show(("", ""), facts)
    reasons = Counter(each.reason for each in findings.unusable).most_common()
    for reason, count in reasons[:REASONS]:
        example = next(each.path for each in findings.unusable if each.reason == reason)
        echo(f"  {count:,} x {reason}: {example}")
    if len(reasons) > REASONS:
        echo(f"  and {len(reasons) - REASONS:,} other reasons")


def print_estimate(estimate: Estimate) -> None:
    """Print how long a first run takes."""
    rows = [
        ("ingest", _time(estimate.ingest)),
        *((f"train {task}", _time(seconds)) for task, seconds in estimate.train.items()),
        ("embed (check, promote)", _time(estimate.embed)),
        ("start programs", _time(estimate.start)),
        ("all", _time(estimate.total)),
    ]
    show(("a first run here takes about", "time"), rows, right=("time",))
    if len(estimate.train) > 1:
        echo("This assumes that each candidate is promoted by a backfill, the most expensive way.")
    if estimate.elsewhere:
        echo(f"Not counted: tasks of other sources, {', '.join(estimate.elsewhere)}.")


def _print_classes(classes: dict[str, int]) -> None:
    largest = max(classes.values())
    rows = [(label, f"{count:,}", "█" * max(1, round(BAR * count / largest))) for label, count in classes.items()]
    if len(rows) > MANY:
        by_count = sorted(rows, key=lambda row: -classes[row[0]])
        rows = [*by_count[:ENDS], (f"… {len(rows) - 2 * ENDS:,} more", "", ""), *by_count[-ENDS:]]
    show(("class", "images", ""), rows, right=("images",))


def _has_test(findings: Findings) -> bool:
    return "test" in findings.taken.source_splits


def _tally(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.most_common())


def _time(seconds: float) -> str:
    return duration(seconds) if seconds >= 1 else "<1 s"


def numbered(lines: Sequence[str]) -> None:
    """Print what to look at."""
    for line in lines:
        echo(f"- {line}")
