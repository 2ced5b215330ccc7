import json

import numpy as np
import pytest

from csd_core.report.scores import Metrics, over_tasks
from csd_core.retrieval import continual

NAN = float("nan")


def test_a_full_line_is_summarised_as_the_continual_metrics_say():
    a = np.array([[0.9, NAN, NAN], [0.95, 0.8, NAN], [0.85, 0.7, 0.6]])
    found = over_tasks(a)
    assert found.average == pytest.approx((0.85 + 0.7 + 0.6) / 3, abs=1e-6)
    assert found.forgetting == pytest.approx((0.1 + 0.1) / 2)
    assert found.backward_transfer == pytest.approx((-0.05 - 0.1) / 2)
    assert found.plasticity == pytest.approx((0.9 + 0.8 + 0.6) / 3, abs=1e-6)


def test_a_task_before_the_first_champion_counts_as_learned_with_it():
    a = np.array([[NAN, NAN, NAN], [0.9, 0.8, NAN], [0.7, 0.8, 0.6]])
    found = over_tasks(a)
    assert found.forgetting == pytest.approx((0.2 + 0.0) / 2)
    assert found.backward_transfer == pytest.approx((-0.2 + 0.0) / 2)
    assert found.plasticity == pytest.approx((0.9 + 0.8 + 0.6) / 3, abs=1e-6)


def test_a_task_that_cannot_be_measured_does_not_count():
    with_gap = np.array([[0.9, NAN, NAN], [0.8, NAN, NAN], [0.7, NAN, 0.6]])
    assert over_tasks(with_gap).average == pytest.approx(0.65)
    last = np.array([[0.9, NAN, NAN], [0.8, 0.5, NAN], [0.7, 0.4, NAN]])
    assert over_tasks(last).average == pytest.approx(0.55)
    assert over_tasks(last).forgetting == pytest.approx(0.2)


def test_without_any_figure_everything_is_null():
    found = over_tasks(np.full((2, 2), NAN))
    assert set(found.model_dump().values()) == {None}


def test_the_record_agrees_with_the_story(promoted):
    metrics, figures = promoted.metrics, promoted.report_data.figures
    expected = continual.compatibility(figures.cross)
    assert metrics.compatibility.ac == pytest.approx(expected.ac, abs=1e-6)
    assert metrics.compatibility.bc == pytest.approx(expected.bc, abs=1e-6)
    assert metrics.compatibility.cross_tests["t3"]["t1"] == pytest.approx(figures.cross[2, 0], abs=1e-6)
    assert metrics.tasks["t2"].recall_at_1 == pytest.approx(
        {"t1": figures.own_recall[1, 0], "t2": figures.own_recall[1, 1]}, abs=1e-6
    )
    assert metrics.all_seen.recall_at_1 == metrics.tasks["t3"].all_seen_recall_at_1
    assert metrics.tasks["t1"].lost is None
    assert metrics.tasks["t2"].lost == promoted.report_data.upgrades[0].lost


def test_gate_figures_are_those_of_what_serves(mixed):
    tasks = mixed.metrics.tasks
    checks = {task.name: task.check for task in mixed.report_data.tasks}
    quo = {name: check.status_quo.overall.at[1] for name, check in checks.items() if check.status_quo}
    taken = {
        (each.strategy, each.share): each.measured.overall.at[1] for each in checks["t2"].alternatives if each.measured
    }
    assert (tasks["t2"].strategy, tasks["t2"].share) == ("partial", 0.75)
    assert tasks["t2"].gate_served == pytest.approx(taken["partial", 0.75], abs=1e-6)
    assert tasks["t2"].gate_status_quo == pytest.approx(quo["t2"], abs=1e-6)
    assert tasks["t1"].gate_status_quo is None
    assert tasks["t1"].gate_served == pytest.approx(checks["t1"].alternatives[0].measured.overall.at[1], abs=1e-6)
    assert tasks["t4"].gate_served == tasks["t4"].gate_status_quo == pytest.approx(quo["t4"], abs=1e-6)
    assert (tasks["t3"].share, tasks["t4"].strategy) == (None, None)


def test_one_generation_has_no_pairs(alone):
    compatibility = alone.metrics.compatibility
    assert (compatibility.ac, compatibility.bc, compatibility.fc) == (None, None, None)
    assert compatibility.am is not None
    assert alone.metrics.retrieval.own.forgetting is None


def test_no_generation_has_no_figures(refused):
    assert refused.metrics.all_seen.recall_at_1 is None
    assert refused.metrics.compatibility.am is None
    assert refused.metrics.compatibility.generations == 0
    assert refused.metrics.tasks["t2"].champion is None
    assert refused.metrics.tasks["t2"].gate_served is None


def test_what_is_saved_is_read_back(promoted, tmp_path):
    path = tmp_path / "metrics.json"
    promoted.metrics.save(path)
    assert Metrics.load(path) == promoted.metrics


def test_every_figure_is_short_enough_for_a_diff(promoted):
    def leaves(value):
        return [leaf for each in value.values() for leaf in leaves(each)] if isinstance(value, dict) else [value]

    figures = [leaf for leaf in leaves(json.loads(promoted.metrics.model_dump_json())) if isinstance(leaf, float)]
    assert figures
    assert all(figure == round(figure, 6) for figure in figures)
