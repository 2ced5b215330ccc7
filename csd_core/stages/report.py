"""Tell the whole story: metrics.json, plots and the HTML page."""

if __name__ == "__main__":
    from csd_core.stages.entry import run_stage

    run_stage("report")

from csd_core.atomic import write_text
from csd_core.console import say
from csd_core.reporting.charts import charts
from csd_core.reporting.gather import gather
from csd_core.reporting.narrative import sentences
from csd_core.reporting.page import render
from csd_core.reporting.plots import save_plots
from csd_core.reporting.scores import summarise
from csd_core.workspace import Workspace


def main() -> None:
    """Write metrics.json, report/plots and report/index.html."""
    files = Workspace()
    story = gather(files, files.params())
    metrics = summarise(story)
    drawn = charts(story, metrics)
    metrics.save(files.metrics)
    save_plots(drawn.values(), files.plots)
    write_text(files.page, render(story, metrics, drawn))
    for sentence in sentences(story, metrics):
        say(sentence)
