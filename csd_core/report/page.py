"""The HTML page: one file, no network. Every name and word from users' data is escaped by the template."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from csd_core.report import narrative, verdicts
from csd_core.report.charts.svg import Chart
from csd_core.report.charts.tasks import shade
from csd_core.report.charts.theme import CHART, PALETTE
from csd_core.report.data import ReportData
from csd_core.report.options import options
from csd_core.report.scores import Metrics

TEMPLATE = "page.html.jinja"

SMOOTH_ABOVE = 40
"""Thumbnails of more pixels are scaled smoothly; smaller ones show their pixels."""


def templates(*folders: Path) -> Environment:
    """Return the house's templates and filters, with the templates of other folders."""
    environment = Environment(
        loader=FileSystemLoader([*folders, Path(__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "percent": narrative.percent,
        "points": narrative.points,
        "plain": narrative.plain,
        "number": "{:,}".format,
        "with_code": html_with_code,
    }
    return environment


def render(report_data: ReportData, metrics: Metrics, charts: Mapping[str, Chart]) -> str:
    """Return the page as HTML; equal stories give equal text."""
    return (
        templates()
        .get_template(TEMPLATE)
        .render(
            report_data=report_data,
            metrics=metrics,
            headline=narrative.headline(report_data),
            sentences=narrative.sentences(report_data, metrics),
            verdict_in_words=verdicts.verdict_in_words,
            judged_in_words=verdicts.judged_in_words,
            because=verdicts.because,
            count=narrative.count,
            orders=verdicts.ORDERS,
            adapters=verdicts.ADAPTERS,
            charts={name: Markup(chart.inline()) for name, chart in charts.items()},  # noqa: S704 - svg.py escapes names
            curves={name: chart.title for name, chart in charts.items() if name.startswith("curve-")},
            heat_map=_heat_map(report_data),
            models=_models(report_data),
            spared=_spared(report_data),
            upgrades=[_upgrade(report_data, stage) for stage, task in enumerate(report_data.tasks) if task.old_rows],
            places=report_data.thumbnails.places(),
            sprite=report_data.thumbnails.data_uri() if report_data.thumbnails.items else None,
            smooth=report_data.thumbnails.edge > SMOOTH_ABOVE,
            style=Markup(PALETTE + CHART),  # noqa: S704 - constants
        )
    )


def html_with_code(words: str) -> Markup:
    """Sentences in which what stands between backticks is code; a name that holds a backtick makes none."""
    parts = words.split("`")
    if len(parts) % 2 == 0:
        return escape(words)
    return Markup().join(
        Markup("<code>{}</code>").format(part) if number % 2 else escape(part) for number, part in enumerate(parts)
    )


def _heat_map(report_data: ReportData) -> list[list[dict[str, float | bool]]]:
    """Return rows of cells: recall, tint in percent, whether it is the self-test, whether the criterion holds."""
    cross = report_data.figures.cross
    if not len(cross) or np.isnan(np.diagonal(cross)).any():
        return []
    tint = shade(cross)
    return [
        [
            {
                "recall": float(cross[row, column]),
                "tint": round(100 * tint(float(cross[row, column]))),
                "own": row == column,
                "compatible": bool(cross[row, column] > cross[column, column]),
            }
            for column in range(row + 1)
        ]
        for row in range(len(cross))
    ]


def _models(report_data: ReportData) -> dict[str, str]:
    """Digest of each promoted model -> the task whose candidate it was."""
    return {str(champion.digest): str(champion.task) for champion in report_data.generations}


def _spared(report_data: ReportData) -> dict[str, int]:
    """Old rows of all upgrades, and those that were re-embedded."""
    return {
        "rows": sum(task.old_rows for task in report_data.replacements),
        "made": sum(task.chosen.rows_embedded for task in report_data.replacements if task.chosen),
    }


def _upgrade(report_data: ReportData, stage: int) -> dict[str, Any]:
    """A task whose candidate met an old gallery: the ways to serve it, its adapters, the deepest dip of a backfill."""
    task, models = report_data.tasks[stage], _models(report_data)
    rows = {(group.embedded_by, group.adapters): group.rows for group in report_data.tasks[stage - 1].groups}
    fits = []
    for fit in task.adapters.fits:
        chain = tuple(fit.adapters.split(",")) if fit.adapters else ()
        fits.append(
            {
                "record": fit,
                "model": models.get(fit.embedded_by, ""),
                "times": {0: "", 1: "once", 2: "twice"}.get(len(chain), f"{len(chain)} times"),
                "rows": rows.get((fit.embedded_by, chain), 0),
            }
        )
    return {"task": task, "options": options(task), "fits": fits, "dip": verdicts.dip_in_words(task.check)}
