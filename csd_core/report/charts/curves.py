"""Charts of a training: each scalar over the epochs of all stages."""

from collections.abc import Iterator, Sequence

import numpy as np

from csd_core.report.charts.svg import Axes, Chart, line, marker, path, shortened, text, ticks
from csd_core.report.data import ReportData

LOSSES = {
    "train/total": "Total loss",
    "train/ce": "Cross-entropy",
    "train/triplet": "Triplet",
    "train/kd": "Distillation (KD)",
    "train/csd": "Contrastive distillation (CSD)",
    "select/recall_at_1": "Recall@1 on select",
}
"""Scalars worth a chart, in their order; others follow by name."""
NOT_SHOWN = frozenset({"train/lr"})


def curve_charts(report_data: ReportData) -> Iterator[Chart]:
    """Yield a small chart for each scalar, the stages one after the other."""
    names = {curve.name for task in report_data.tasks for curve in task.curves} - NOT_SHOWN
    known = [name for name in LOSSES if name in names]
    lengths = [max((len(curve.values) for curve in task.curves), default=0) for task in report_data.tasks]
    starts = np.cumsum([0, *lengths])
    for name in (*known, *sorted(names - set(known))):
        yield from _scalar(report_data, name, starts.tolist())


def _scalar(report_data: ReportData, name: str, starts: Sequence[int]) -> Iterator[Chart]:
    """One scalar over all epochs, a dashed line where a stage begins."""
    found = [
        (starts[stage], curve.values)
        for stage, task in enumerate(report_data.tasks)
        for curve in task.curves
        if curve.name == name
    ]
    finite = np.concatenate([values[np.isfinite(values)] for _, values in found])
    if not len(finite):
        return
    share = name.startswith("select/")
    kind = "retrieval" if share else "classification"
    low, high = float(finite.min()), float(finite.max())
    marks = ticks(low if share else min(0.0, low), high, about=3)
    axes = Axes(
        left=44, right=330, top=12, bottom=132, first=0, last=max(1, starts[-1] - 1), low=marks[0], high=marks[-1]
    )
    body = axes.horizontal(marks, [f"{100 * mark:g}" if share else f"{mark:g}" for mark in marks])
    every = -(-len(report_data.tasks) // 5)
    for stage, task in enumerate(report_data.tasks):
        x = axes.x(max(0, starts[stage] - 0.5))
        if stage:
            body += line(x, axes.top, x, axes.bottom, "stage")
        if stage % every == 0:
            body += text(x + 2, axes.bottom + 17, shortened(task.name, 8 if len(report_data.tasks) <= 5 else 5))  # noqa: PLR2004
    for start, values in found:
        places = [(axes.x(start + epoch), axes.y(value)) for epoch, value in enumerate(values) if np.isfinite(value)]
        if len(places) == 1:
            body += marker(*places[0], 0, f"fill-{kind}", f"{values[0]:.4g}")
        elif places:
            body += path(places, f"line {kind}")
    title = LOSSES.get(name, name)
    yield Chart(
        name="curve-" + "".join(letter if letter.isalnum() else "-" for letter in name),
        title=title,
        description=f"{title} over all epochs, between {low:.4g} and {high:.4g}; last {found[-1][1][-1]:.4g}.",
        width=346,
        height=158,
        body=body,
    )
