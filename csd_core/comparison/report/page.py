"""The report of a comparison: report.md, results.csv and index.html, from the figures alone."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from markupsafe import Markup

from csd_core.comparison.report.judged_tables import judged_table, promoted_cost_table
from csd_core.comparison.report.plots import pictures
from csd_core.comparison.report.summary_tables import glance_table, pairs_table, seed_table
from csd_core.comparison.report.tables import Table, cost_table, difference_table, profile_table
from csd_core.comparison.report.text import by_contender, headline, not_run, outdated, sentences
from csd_core.comparison.report.upgrade_plots import matrices
from csd_core.comparison.report.upgrade_tables import count_table, upgrade_table
from csd_core.comparison.results.columns import COLUMNS
from csd_core.comparison.results.figures import Comparison, part
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
    write_text(folder / CSV, read_results(results).to_csv(index=False, lineterminator="\n"))
    told: dict[str, Any] = {
        "comparison": comparison,
        "headline": headline(comparison),
        "sentences": sentences(comparison),
        "pooled": [difference_table(comparison)] if len(comparison.differences) else [],
        "counts": count_table(comparison),
        "judged": [judged_table(comparison)] if len(comparison.ways) else [],
        "seed_by_seed": _seed_by_seed(comparison),
        "profiles": [_profile(comparison, profile) for profile in comparison.profiles],
        "costs": [*([promoted_cost_table(comparison)] if len(comparison.ways) else []), cost_table(comparison)],
        "missing": by_contender(comparison.missing),
        "not_run": not_run(comparison),
        "outdated": outdated(comparison),
        "by_contender": by_contender,
    }
    write_text(folder / TEXT, _markdown(**told))
    style = Markup(PALETTE + CHART + SERIES)  # noqa: S704 - constants
    page = templates(Path(__file__).parent).get_template(TEMPLATE)
    write_text(folder / PAGE, page.render(**told, style=style))


def _seed_by_seed(comparison: Comparison) -> list[Table]:
    """Return a table of each contender that has pairs with the reference; the last has the note that holds for all."""
    others = (name for name in comparison.contenders() if name != comparison.reference)
    tables = [table for name in others if (table := seed_table(comparison, name))]
    return [*(replace(table, note="") for table in tables[:-1]), *tables[-1:]]


def _profile(comparison: Comparison, profile: str) -> dict[str, Any]:
    table, tasks = profile_table(comparison, profile), comparison.tasks(profile)
    return {
        "name": profile,
        "tasks": tasks,
        "glance": glance_table(comparison, profile),
        "table": table,
        "differences": difference_table(comparison, profile),
        "pairs": pairs_table(comparison, profile),
        "upgrades": [
            *([judged_table(comparison, profile)] if len(part(comparison.ways, profile)) else []),
            *([upgrade_table(comparison, profile)] if tasks[1:] else []),
        ],
        "each_upgrade": [upgrade_table(comparison, profile, task) for task in tasks[1:]] if tasks[2:] else [],
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
            for contender, entries in zip(comparison.contenders(profile), table.rows.values(), strict=True)
        },
    }


def _markdown(*, comparison: Comparison, profiles: Sequence[dict[str, Any]], **told: Any) -> str:
    """Return the tables as Markdown."""
    sections = {
        "Over all profiles": [*told["judged"], *told["pooled"], told["counts"]],
        "Seed by seed": told["seed_by_seed"],
        **{
            each["name"]: [
                *(each[name] for name in ("glance", "table", "differences", "pairs")),
                *each["upgrades"],
                *each["each_upgrade"],
            ]
            for each in profiles
        },
        "Cost": told["costs"],
    }
    parts = [f"# {told['headline']}", _items(told["sentences"])]
    for title, tables in sections.items():
        parts += [f"## {title}", *(table.markdown() for table in tables)] if tables else []
    if told["missing"]:
        parts += [f"## {told['not_run']}", _items(told["missing"])]
    if comparison.outdated:
        parts += [f"## {told['outdated']}", _items(by_contender(comparison.outdated))]
    if comparison.stray:
        parts.append(f"Left out, for they are not planned: {', '.join(map(str, comparison.stray))}.")
    return "\n\n".join(parts) + "\n"


def _items(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
