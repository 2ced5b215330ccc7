"""The report of a comparison: report.md, results.csv and index.html, from the figures alone."""

import csv
import io
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from markupsafe import Markup

from csd_core.comparison.report.plots import pictures
from csd_core.comparison.report.summary_tables import glance_table, pairs_table, seed_table
from csd_core.comparison.report.tables import Table, cost_table, difference_table, profile_table
from csd_core.comparison.report.text import by_contender, headline, missing, not_run, outdated, sentences
from csd_core.comparison.report.upgrade_plots import matrices
from csd_core.comparison.report.upgrade_tables import count_table, upgrade_table
from csd_core.comparison.results.columns import COLUMNS
from csd_core.comparison.results.figures import Comparison
from csd_core.comparison.results.table import read_results
from csd_core.report.charts.theme import CHART, PALETTE, SERIES
from csd_core.report.page import templates
from csd_core.system.atomic import write_text

PAGE, TEXT, CSV = "index.html", "report.md", "results.csv"
COMPATIBILITY = ("AC", "AM", "BC", "FC")
"""Columns that stand below a compatibility matrix."""
TEMPLATE = "comparison.html.jinja"


def write_report(comparison: Comparison, results: Path, folder: Path) -> None:
    """Write the three files; equal figures give equal bytes.

    Args:
        comparison: Its figures.
        results: results.parquet, which results.csv repeats.
        folder: Where to; other files in it stay.

    Raises:
        ArtifactError: if results.parquet is missing or damaged.
    """
    write_text(folder / CSV, _csv(results))
    write_text(folder / TEXT, markdown(comparison))
    write_text(folder / PAGE, html(comparison))


def _csv(results: Path) -> str:
    table, text = read_results(results), io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(table.column_names)
    lines.writerows(zip(*(column.to_pylist() for column in table.itercolumns()), strict=True))
    return text.getvalue()


def _upgrades(comparison: Comparison, profile: str) -> list[Table]:
    """Old items over all upgrades, and after each where there are several."""
    later = comparison.tasks(profile)[1:]
    if not later:
        return []
    each = [upgrade_table(comparison, profile, task) for task in later] if len(later) > 1 else []
    return [upgrade_table(comparison, profile), *each]


def _seed_by_seed(comparison: Comparison) -> list[Table]:
    """Return a table of each contender that has pairs with the reference; the last has the note that holds for all."""
    others = (name for name in comparison.contenders() if name != comparison.reference)
    tables = [table for name in others if (table := seed_table(comparison, name))]
    return [*(replace(table, notes=()) for table in tables[:-1]), *tables[-1:]]


def markdown(comparison: Comparison) -> str:
    """Return the tables as Markdown."""
    parts = [f"# {headline(comparison)}", _items(sentences(comparison))]
    parts += ["## Over all profiles", difference_table(comparison).markdown(), count_table(comparison).markdown()]
    pairs = _seed_by_seed(comparison)
    if pairs:
        parts += ["## Seed by seed", *(table.markdown() for table in pairs)]
    for profile in comparison.profiles:
        tables = [
            glance_table(comparison, profile),
            profile_table(comparison, profile),
            difference_table(comparison, profile),
            pairs_table(comparison, profile),
        ]
        parts += [f"## {profile}", *(table.markdown() for table in [*tables, *_upgrades(comparison, profile)])]
    parts += ["## Cost", cost_table(comparison).markdown()]
    gaps = missing(comparison)
    if gaps:
        parts += [f"## {not_run(comparison)}", _items(gaps)]
    if comparison.outdated:
        parts += [f"## {outdated(comparison)}", _items(by_contender(comparison.outdated))]
    if comparison.stray:
        parts.append(f"Left out, for they are not planned: {', '.join(map(str, comparison.stray))}.")
    return "\n\n".join(parts) + "\n"


def _items(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def html(comparison: Comparison) -> str:
    """Return the page: one file, no network."""
    return (
        templates(Path(__file__).parent)
        .get_template(TEMPLATE)
        .render(
            comparison=comparison,
            headline=headline(comparison),
            sentences=sentences(comparison),
            pooled=difference_table(comparison),
            counts=count_table(comparison),
            seed_by_seed=_seed_by_seed(comparison),
            profiles=[_profile(comparison, profile) for profile in comparison.profiles],
            cost=cost_table(comparison),
            missing=missing(comparison),
            by_contender=by_contender,
            outdated=outdated(comparison),
            not_run=not_run(comparison),
            style=Markup(PALETTE + CHART + SERIES),  # noqa: S704 - constants
        )
    )


def _profile(comparison: Comparison, profile: str) -> dict[str, Any]:
    table, upgrades = profile_table(comparison, profile), _upgrades(comparison, profile)
    return {
        "name": profile,
        "tasks": comparison.tasks(profile),
        "glance": glance_table(comparison, profile),
        "table": table,
        "differences": difference_table(comparison, profile),
        "pairs": pairs_table(comparison, profile),
        "upgrades": upgrades[:1],
        "each_upgrade": upgrades[1:],
        "charts": {
            what: Markup(chart.inline())  # noqa: S704 - svg.py escapes names
            for what, chart in pictures(comparison, profile).items()
        },
        "matrices": {
            contender: Markup(chart.inline())  # noqa: S704 - as above
            for contender, chart in matrices(comparison, profile)
        },
        "compatibility": {
            contender: ", ".join(
                f"{column.title} {entry.words}"
                for column, entry in zip(COLUMNS, entries, strict=False)
                if column.title in COMPATIBILITY
            )
            for contender, (_, entries) in zip(comparison.contenders(profile), table.rows, strict=True)
        },
    }
