"""Tell the whole story: metrics.json, plots and the HTML page."""

if __name__ == "__main__":
    from csd_core.stages.entry import run_stage

    run_stage("report")

from csd_core.report.charts.files import save_plots
from csd_core.report.charts.tasks import charts
from csd_core.report.collect import collect
from csd_core.report.narrative import sentences
from csd_core.report.page import render
from csd_core.report.scores import summarise
from csd_core.system.atomic import write_text
from csd_core.system.console import echo
from csd_core.workspace import Workspace


def main() -> None:
    """Write metrics.json, report/plots and report/index.html."""
    workspace = Workspace()
    report_data = collect(workspace, workspace.params())
    metrics = summarise(report_data)
    drawn = charts(report_data, metrics)
    metrics.save(workspace.metrics)
    save_plots(drawn.values(), workspace.plots)
    write_text(workspace.page, render(report_data, metrics, drawn))
    for sentence in sentences(report_data, metrics):
        echo(sentence)
