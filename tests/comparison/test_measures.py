"""Figures of a recorded cell: contender csd of comparisons/example.yaml, without its images, models and galleries."""

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from csd_core.comparison.results.measures import CellMeasures, Measure, measure_cell
from csd_core.comparison.results.table import SCHEMA, read_results, write_results
from csd_core.comparison.running.runs import Cell, params_of
from csd_core.comparison.running.spec import load_spec
from csd_core.comparison.running.timings import StageTime, Timings
from csd_core.records.check import CheckReport
from csd_core.system.errors import ArtifactError
from csd_core.upgrade.gate_rules import lower_bound, with_share

ROOT = Path(__file__).parents[2]
RECORDED = Path(__file__).parent / "recorded"
CELL = Cell("tiny", "csd", 1)


@pytest.fixture(scope="module")
def params():
    spec = load_spec(ROOT / "comparisons" / "example.yaml")
    return params_of(spec, project=ROOT, where="example.yaml")[CELL].params


@pytest.fixture(scope="module")
def measured(params):
    timings = Timings(
        stages={
            "train@t2": StageTime(seconds=5.5, finished=True),
            "train@t3": StageTime(seconds=2.0, finished=False),
        }
    )
    return measure_cell(RECORDED, params, timings)


def value(measured, measure, after=None, on=None):
    (found,) = [each.value for each in measured if (each.measure, each.after, each.on) == (measure, after, on)]
    return found


def rows(measured, measure):
    return [(each.after, each.on) for each in measured if each.measure == measure]


def test_test_figures_come_for_each_stage_and_task(measured):
    lower = [("t1", "t1"), ("t2", "t1"), ("t2", "t2"), ("t3", "t1"), ("t3", "t2"), ("t3", "t3")]
    for measure in ("recall_own", "accuracy_own", "compatibility"):
        assert rows(measured, measure) == lower
    for measure in ("recall_seen", "accuracy_seen", "train_images"):
        assert rows(measured, measure) == [("t1", None), ("t2", None), ("t3", None)]
    assert rows(measured, "map_at_r_seen") == [("t3", None)]


def test_summaries_agree_with_the_figures_they_summarise(measured):
    tasks = ("t1", "t2", "t3")
    assert value(measured, "average") == pytest.approx(
        sum(value(measured, "recall_own", "t3", task) for task in tasks) / 3, abs=1e-6
    )
    assert value(measured, "plasticity") == pytest.approx(
        sum(value(measured, "recall_own", task, task) for task in tasks) / 3, abs=1e-6
    )
    fallen = [
        max(value(measured, "recall_own", after, task) for after in learned) - value(measured, "recall_own", "t3", task)
        for task, learned in (("t1", ("t1", "t2")), ("t2", ("t2",)))
    ]
    assert value(measured, "forgetting_own_recall") == pytest.approx(sum(fallen) / 2, abs=1e-6)
    self_tests = {task: value(measured, "compatibility", task, task) for task in tasks}
    better = [
        value(measured, "compatibility", after, on) > self_tests[on]
        for after, on in (("t2", "t1"), ("t3", "t1"), ("t3", "t2"))
    ]
    assert value(measured, "ac") == pytest.approx(sum(better) / 3, abs=1e-6)


def test_each_upgrade_tells_what_the_gate_saw_and_would_have_decided(measured):
    for task in ("t2", "t3"):
        test = CheckReport.load(RECORDED / "artifacts" / task / "check.json").cross_test
        assert value(measured, "gate_self", task) == test.self_test
        assert value(measured, "gate_cross", task) == test.cross_test
        assert value(measured, "gate_adapted", task) == test.self_test + test.adapted.difference
        assert value(measured, "ecc_keep", task) == (test.cross_test > test.self_test)
        assert value(measured, "ecc_keep_bound", task) <= test.paired.difference
        assert value(measured, "ecc_adapt_bound", task) <= test.adapted.difference
        assert {value(measured, f"would_pass_{name}", task) for name in ("keep", "adapt", "backfill")} == {1.0}
    assert ("t1", None) not in rows(measured, "would_pass_backfill")


def test_each_way_of_an_upgrade_has_what_it_brings_and_costs(measured):
    for task in ("t2", "t3"):
        alternatives = CheckReport.load(RECORDED / "artifacts" / task / "check.json").alternatives
        ways = [(task, each.strategy) for each in alternatives]
        for measure in ("promoted", "gain", "gain_bound", "lost", "old_change", "rows_embedded", "query_models"):
            assert [place for place in rows(measured, measure) if place[0] == task] == ways
        for way in alternatives:
            overall = way.against_status_quo["overall"]
            assert value(measured, "gain", task, way.strategy) == overall.difference
            assert value(measured, "gain_bound", task, way.strategy) < overall.difference
            assert value(measured, "lost", task, way.strategy) == overall.lost / overall.queries
            assert value(measured, "old_change", task, way.strategy) == way.against_status_quo["old"].difference
            assert value(measured, "rows_embedded", task, way.strategy) == way.rows_embedded
    assert value(measured, "promoted", "t3", "keep") == 1
    assert not rows(measured, "stopped")


def test_a_way_passes_as_the_only_one_allowed_though_it_is_not_taken_beside_others(params):
    report = CheckReport.load(RECORDED / "artifacts" / "t3" / "check.json")
    keep = report.alternatives[0]
    alone, beside = (
        lower_bound(keep.against_status_quo["old"], with_share(params.gate, share)) for share in (1, 1 / 3)
    )  # nothing was measured on `select`, so three ways share the risk
    between = params.gate.model_copy(update={"max_regression": -(alone + beside) / 2})
    found = measure_cell(RECORDED, params.model_copy(update={"gate": between}), Timings())
    assert beside < alone
    assert value(found, "would_pass_keep", "t3") == 1
    assert value(found, "promoted", "t3", "keep") == 0


def test_a_rejected_candidate_names_the_conditions_that_its_backfill_fails(params):
    strict = params.model_copy(update={"gate": params.gate.model_copy(update={"max_task_regression": 0.0})})
    found = measure_cell(RECORDED, strict, Timings())
    assert ("t3", "max_task_regression") in rows(found, "stopped")
    assert {value(found, "promoted", "t3", way) for way in ("keep", "adapt", "backfill")} == {0.0}


def test_a_stricter_policy_would_not_have_promoted_what_was_promoted(params):
    strict = params.model_copy(update={"gate": params.gate.model_copy(update={"max_regression": 0.0})})
    found = measure_cell(RECORDED, strict, Timings())
    assert value(found, "would_pass_keep", "t3") == 0


def test_only_a_whole_stage_that_ran_here_has_seconds(measured):
    assert rows(measured, "train_seconds") == [("t2", None)]
    assert value(measured, "train_seconds", "t2") == 5.5


def test_images_of_a_stage_are_those_it_learned_from(params, tmp_path):
    shutil.copytree(RECORDED, tmp_path / "cell")
    record = tmp_path / "cell" / "artifacts" / "t2" / "candidate" / "model" / "model.json"
    record.write_text(record.read_text().replace('"trained_on": [\n    "t2"', '"trained_on": [\n    "t1", "t2"'))
    found = measure_cell(tmp_path / "cell", params, Timings())
    assert [value(found, "train_images", task) for task in ("t1", "t2", "t3")] == [72, 126, 54]


def test_a_cell_that_lacks_an_artefact_says_so(params, tmp_path):
    shutil.copytree(RECORDED, tmp_path / "cell")
    (tmp_path / "cell" / "artifacts" / "t3" / "check.json").unlink()
    with pytest.raises(ArtifactError, match="t3/check.json: missing"):
        measure_cell(tmp_path / "cell", params, Timings())


def test_measures_are_read_back_as_they_were_written(measured, tmp_path):
    CellMeasures(params="d", values=measured).save(tmp_path / "measures.json")
    assert CellMeasures.load(tmp_path / "measures.json").values == measured


def test_the_table_is_sorted_whatever_the_order_of_the_cells(measured, tmp_path):
    few = (Measure(measure="ac", value=0.5), Measure(measure="a", after="t2", value=1), Measure(measure="a", value=0))
    figures = {Cell("b", "x", 2): few, Cell("b", "x", 1): few, CELL: measured}
    cells = {cell: CellMeasures(params="d", values=values) for cell, values in figures.items()}
    write_results(tmp_path / "one.parquet", cells)
    write_results(tmp_path / "two.parquet", dict(reversed(cells.items())))
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()
    table = pq.read_table(tmp_path / "one.parquet")
    assert table.schema == SCHEMA
    every = {"profile": "b", "contender": "x", "seed": 1, "params": "d"}
    assert table.slice(0, 3).to_pylist() == [
        {**every, "measure": "a", "after": None, "on": None, "value": 0.0},
        {**every, "measure": "a", "after": "t2", "on": None, "value": 1.0},
        {**every, "measure": "ac", "after": None, "on": None, "value": 0.5},
    ]
    assert len(table) == 6 + len(measured)


def test_a_table_of_no_cells_has_its_columns(tmp_path):
    write_results(tmp_path / "none.parquet", {})
    assert len(read_results(tmp_path / "none.parquet")) == 0


def test_what_is_no_table_of_results_is_told(tmp_path):
    file = tmp_path / "results.parquet"
    with pytest.raises(ArtifactError, match="results.parquet: missing; `csd compare run` makes it"):
        read_results(file)
    file.write_bytes(b"PAR1")
    with pytest.raises(ArtifactError, match="not a whole parquet file"):
        read_results(file)
    row = {"profile": "b", "contender": "x", "seed": 1, "params": "d", "measure": "ac", "value": 0.5}
    for other in (row, {**row, "measure": "bc", "params": "other"}):
        pq.write_table(pa.Table.from_pylist([row, other], schema=SCHEMA), file)
        with pytest.raises(ArtifactError, match=f"has {other['measure']} of b/x/1 twice"):
            read_results(file)
    pq.write_table(SCHEMA.empty_table().drop_columns(["on"]), file)
    with pytest.raises(ArtifactError, match="has other columns"):
        read_results(file)
