import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest

from csd_core.report.charts.files import save_plots
from csd_core.report.charts.tasks import charts
from csd_core.report.scalars import Curve

TASK_CHARTS = {"own-recall", "own-accuracy", "seen-recall", "seen-accuracy"}


def drawn(told):
    return charts(told.report_data, told.metrics)


def texts(chart):
    return [element.text for element in ET.fromstring(chart.inline()).iter() if element.text]  # noqa: S314 - our own


def test_every_chart_has_a_title_and_words_for_who_cannot_see_it(promoted):
    for name, chart in drawn(promoted).items():
        assert chart.name == name
        assert chart.title in texts(chart)
        assert len(chart.description) > 20


def test_the_lines_end_with_the_figures_of_the_metrics(promoted):
    found = texts(drawn(promoted)["own-recall"])
    for task, recall in promoted.metrics.tasks["t3"].recall_at_1.items():
        assert f"{task} {100 * recall:.1f}" in found


def test_retrieval_and_classification_share_one_scale(promoted):
    found = drawn(promoted)

    def scale(name):
        return [text for text in texts(found[name]) if text.isdigit()]

    assert scale("own-recall") == scale("own-accuracy")
    assert scale("seen-recall") == scale("seen-accuracy")


def test_a_rejected_stage_is_crossed_on_the_axis(carried):
    assert "t2 ✗" in texts(drawn(carried)["own-recall"])
    assert "t3" in texts(drawn(carried)["own-recall"])


def test_every_loss_term_has_a_chart_and_the_learning_rate_has_none(promoted):
    names = {name for name in drawn(promoted) if name.startswith("curve-")}
    assert names == {
        f"curve-{name}"
        for name in ("train-total", "train-ce", "train-triplet", "train-kd", "train-csd", "select-recall-at-1")
    }


def test_without_a_champion_only_training_is_drawn(refused):
    assert all(name.startswith("curve-") for name in drawn(refused))


def test_one_task_has_no_forgetting_to_draw(alone):
    assert set(drawn(alone)) >= {*TASK_CHARTS, "compatibility"}
    assert "forgetting" not in drawn(alone)


@pytest.mark.parametrize("report_data", ["promoted", "carried", "mixed"])
def test_the_plot_folder_holds_whole_svg_files_and_nothing_else(request, tmp_path, report_data):
    found = drawn(request.getfixturevalue(report_data))
    save_plots(found.values(), tmp_path / "plots")
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {f"{name}.svg" for name in found}
    for path in (tmp_path / "plots").iterdir():
        assert ET.parse(path).getroot().tag.endswith("svg")  # noqa: S314 - our own
        assert "http" not in path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")


def test_a_task_without_test_items_has_no_line(unmeasured):
    found = texts(drawn(unmeasured)["own-recall"])
    assert any(text.startswith("t1 ") for text in found)
    assert not any(text.startswith("t2 ") for text in found)


def test_a_loss_that_was_not_finite_leaves_a_gap(alone):
    task = alone.report_data.tasks[0]
    curves = (
        Curve(name="train/total", values=np.array([2.0, np.nan, 1.0, np.inf])),
        Curve(name="train/ce", values=np.array([np.nan])),
        Curve(name="train/kd", values=np.array([0.5])),
    )
    report_data = replace(alone.report_data, tasks=(replace(task, curves=curves),))
    found = charts(report_data, alone.metrics)
    assert "nan" not in found["curve-train-total"].body
    assert "curve-train-ce" not in found
    assert "<circle" in found["curve-train-kd"].body


def test_a_term_of_another_method_has_a_chart_too(alone):
    task = alone.report_data.tasks[0]
    report_data = replace(
        alone.report_data, tasks=(replace(task, curves=(Curve(name="train/mmd", values=np.ones(3)),)),)
    )
    assert charts(report_data, alone.metrics)["curve-train-mmd"].title == "train/mmd"
