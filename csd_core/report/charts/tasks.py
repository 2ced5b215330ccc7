"""The report's charts: colour says what is measured (retrieval or classification), shape and label of which task."""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from csd_core.report.charts.curves import curve_charts
from csd_core.report.charts.svg import Axes, Chart, box, line, marker, path, shortened, spread, text, ticks
from csd_core.report.charts.upgrades import upgrade_charts
from csd_core.report.data import ReportData
from csd_core.report.narrative import MINUS, percent
from csd_core.report.scores import Metrics

Matrix = npt.NDArray[np.float64]
Kind = Literal["retrieval", "classification"]

LABEL_GAP = 14.5
"""Pixels between two labels on top of each other."""
MANY_STAGES = 8
"""From here on stage labels stand upright or are thinned out."""


def charts(report_data: ReportData, metrics: Metrics) -> dict[str, Chart]:
    """Return every chart by name; those that would be empty are left out."""
    drawn = [
        *upgrade_charts(report_data),
        *_tasks(report_data),
        *_forgetting(metrics),
        *_heat_map(report_data),
        *curve_charts(report_data),
    ]
    return {chart.name: chart for chart in drawn}


# --- per task, over the stages ----------------------------------------------------------------------------------------


def _tasks(report_data: ReportData) -> Iterator[Chart]:
    """Retrieval and classification side by side on one scale, so that their heights compare."""
    figures = report_data.figures
    pairs: tuple[tuple[Matrix, Matrix, str, str, str, str], ...] = (
        (
            figures.own_recall,
            figures.own_accuracy,
            "own-recall",
            "Recall@1, own gallery",
            "own-accuracy",
            "Accuracy within the task's classes",
        ),
        (
            figures.seen_recall,
            figures.seen_accuracy,
            "seen-recall",
            "Recall@1 over everything seen",
            "seen-accuracy",
            "Accuracy over all classes seen",
        ),
    )
    for recall, accuracy, recall_name, recall_title, accuracy_name, accuracy_title in pairs:
        values = np.concatenate([recall[~np.isnan(recall)], accuracy[~np.isnan(accuracy)]])
        if len(values):
            marks = [tick for tick in ticks(float(values.min()), 1.0) if tick <= 1]
            yield _over_stages(report_data, recall, kind="retrieval", name=recall_name, title=recall_title, marks=marks)
            yield _over_stages(
                report_data, accuracy, kind="classification", name=accuracy_name, title=accuracy_title, marks=marks
            )


def _over_stages(
    report_data: ReportData, a: Matrix, *, kind: Kind, name: str, title: str, marks: Sequence[float]
) -> Chart:
    """Return a line for each task from its own stage on."""
    count = len(report_data.tasks)
    height = max(230.0, 60 + LABEL_GAP * count)
    axes = Axes(
        left=40,
        right=340,
        top=16,
        bottom=height - 34,
        first=0,
        last=count - 1,
        low=min(marks[0], marks[-1] - 0.01),
        high=marks[-1],
    )
    body = axes.horizontal(marks, [f"{100 * mark:g}" for mark in marks]) + _stage_labels(report_data, axes)
    ends: list[tuple[float, float, str]] = []
    for task in range(count):
        stages = np.flatnonzero(~np.isnan(a[:, task]))
        if not len(stages):
            continue
        places = [(axes.x(stage), axes.y(a[stage, task])) for stage in stages.tolist()]
        age = 1 - 0.5 * task / max(1, count - 1)
        body += path(places, f"line {'thin ' if count > MANY_STAGES else ''}{kind}", opacity=age)
        for stage, (x, y) in zip(stages.tolist(), places, strict=True):
            tip = f"{report_data.tasks[task].name} after {report_data.tasks[stage].name}: {percent(a[stage, task])} %"
            body += marker(x, y, task, f"fill-{kind}", tip)
        ends.append((*places[-1], f"{shortened(report_data.tasks[task].name)} {percent(a[stages[-1], task])}"))
    targets = spread([y for _, y, _ in ends], gap=LABEL_GAP, low=axes.top, high=axes.bottom)
    for (x, y, label), target in zip(ends, targets, strict=True):
        if abs(target - y) > 1:
            body += path([(x + 5, y), (axes.right + 12, target)], "lead")
        body += text(axes.right + 15, target + 4, label, style="strong")
    last = ", ".join(label for _, _, label in ends)
    description = f"{title} in percent, a line for each task over the stages. After the last stage: {last}."
    return Chart(name=name, title=title, description=description, width=460, height=height, body=body)


def _stage_labels(report_data: ReportData, axes: Axes) -> str:
    """Stages below the axis; a cross says that the candidate was rejected. Thinned out where they would touch."""
    every = -(-len(report_data.tasks) // MANY_STAGES)
    fitting = 12 if len(report_data.tasks) <= 4 else 6  # noqa: PLR2004
    return "".join(
        text(
            axes.x(stage),
            axes.bottom + 20,
            shortened(task.name, fitting) + ("" if task.promoted else " ✗"),
            anchor="middle",
        )
        for stage, task in enumerate(report_data.tasks)
        if (len(report_data.tasks) - 1 - stage) % every == 0
    )


# --- forgetting -------------------------------------------------------------------------------------------------------


def _forgetting(metrics: Metrics) -> Iterator[Chart]:
    """Mean forgetting in points: features beside classifier, like with like."""
    groups = (
        ("Each task alone", metrics.retrieval.own.forgetting, metrics.classification.own.forgetting),
        ("Everything seen", metrics.retrieval.all_seen.forgetting, metrics.classification.all_seen.forgetting),
    )
    values = [value for _, *pair in groups for value in pair if value is not None]
    if not values:
        return
    marks = ticks(min(0.0, *values), max(0.02, *values))
    axes = Axes(left=112, right=294, top=8, bottom=150, first=marks[0], last=marks[-1], low=0, high=1)
    body = "".join(
        line(axes.x(mark), axes.top, axes.x(mark), axes.bottom, "grid")
        + text(axes.x(mark), axes.bottom + 17, f"{100 * mark:g}".replace("-", MINUS), anchor="middle")
        for mark in marks
    )
    said = []
    for group, (what, *pair) in enumerate(groups):
        top = axes.top + 6 + 72 * group
        body += text(8, top + 31, what)
        kinds: tuple[tuple[Kind, str], ...] = (("retrieval", "retrieval"), ("classification", "classification"))
        for bar, ((kind, noun), value) in enumerate(zip(kinds, pair, strict=True)):
            if value is None:
                continue
            y, start, end = top + 28 * bar, axes.x(min(0.0, value)), axes.x(max(0.0, value))
            words = f"{percent(value)} {noun}".replace("-", MINUS)
            tip = f"{what}: {words}"
            body += box(start, y, max(end - start, 1.5), 24, f"fill-{kind}", tip, radius=2)
            body += text(end + 7, y + 16, words, style="strong")
            said.append(f"{what.lower()}, {noun} {percent(value)}")
    body += line(axes.x(0), axes.top, axes.x(0), axes.bottom, "zero")
    yield Chart(
        name="forgetting",
        title="Mean forgetting, in points",
        description=f"Mean forgetting of earlier tasks in points: {'; '.join(said)}.",
        width=450,
        height=176,
        body=body,
    )


# --- compatibility ----------------------------------------------------------------------------------------------------


def shade(cross: Matrix) -> Callable[[float], float]:
    """Return how strongly to tint a cell: 0.06 for the lowest recall of the matrix, 0.45 for the highest."""
    low, high = float(np.nanmin(cross)), float(np.nanmax(cross))
    return lambda value: 0.45 if high == low else 0.06 + 0.39 * (value - low) / (high - low)


def _heat_map(report_data: ReportData) -> Iterator[Chart]:
    cross, names = report_data.figures.cross, [str(champion.task) for champion in report_data.generations]
    if not names or np.isnan(np.diagonal(cross)).any():
        return
    yield triangle(
        cross,
        names,
        name="compatibility",
        title="Recall@1, queries by row on vectors by column",
        description="Compatibility matrix of the promoted generations; a tick where a cross-test beats the self-test.",
        tint=shade(cross),
        sign=lambda row, column: "✓" if cross[row, column] > cross[column, column] else "✗",
    )


def triangle(
    cross: Matrix,
    names: Sequence[str],
    *,
    name: str,
    title: str,
    description: str,
    tint: Callable[[float], float],
    sign: Callable[[int, int], str],
) -> Chart:
    """Return a heat map of recalls by generations of queries (rows) and of vectors (columns).

    Args:
        cross: (G, G); what is above the diagonal is not read.
        names: Of the G generations.
        name: Of the chart.
        title: Of the chart.
        description: Of the chart.
        tint: Opacity of a cell's colour for its recall.
        sign: What stands beside the recall at a row and an earlier column.
    """
    cell, left, top = 56, 112, 30
    body = "".join(
        text(left + cell * (column + 0.5), top - 10, shortened(each, 8), anchor="middle")
        for column, each in enumerate(names)
    )
    for row, each in enumerate(names):
        middle = top + cell * (row + 0.5)
        body += text(left - 10, middle + 4, shortened(each), anchor="end")
        for column in range(row + 1):
            value = float(cross[row, column])
            words = percent(value) if row == column else f"{percent(value)} {sign(row, column)}"
            x, y = left + cell * column, top + cell * row
            tip = f"queries of {each} on vectors of {names[column]}: {percent(value)} %"
            body += box(x + 1, y + 1, cell - 2, cell - 2, "fill-retrieval", tip, radius=3, opacity=tint(value))
            body += text(x + cell / 2, middle + 4, words, anchor="middle", style="strong")
    return Chart(
        name=name,
        title=title,
        description=description,
        width=max(400, left + cell * len(names) + 16),
        height=top + cell * len(names) + 12,
        body=body,
    )
