"""Tell the whole story: metrics.json, plots and the HTML page."""

if __name__ == "__main__":
    from csd_core.stages.entry import run_stage

    run_stage("report")

from csd_core.report.charts.files import save_plots
from csd_core.report.charts.tasks import charts
from csd_core.report.collect import gather
from csd_core.report.narrative import sentences
from csd_core.report.page import render
from csd_core.report.scores import summarise
from csd_core.system.atomic import write_text
from csd_core.system.console import say
from csd_core.workspace import Workspace


def main() -> None:
    """Write metrics.json, report/plots and report/index.html."""
    files = Workspace()
    report_data = gather(files, files.params())
    metrics = summarise(report_data)
    drawn = charts(report_data, metrics)
    metrics.save(files.metrics)
    save_plots(drawn.values(), files.plots)
    write_text(files.page, render(report_data, metrics, drawn))
    for sentence in sentences(report_data, metrics):
        say(sentence)
