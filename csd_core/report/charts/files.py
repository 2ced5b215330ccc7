"""The charts as SVG files, for `dvc plots` and for documents."""

from collections.abc import Iterable
from pathlib import Path

from csd_core.report.charts.svg import Chart
from csd_core.system.atomic import atomic_folder


def save_plots(charts: Iterable[Chart], folder: Path) -> None:
    """Write NAME.svg for each chart and nothing else, whole or not at all."""
    with atomic_folder(folder) as partial:
        for chart in charts:
            (partial / f"{chart.name}.svg").write_text(chart.standalone(), encoding="utf-8", newline="\n")
