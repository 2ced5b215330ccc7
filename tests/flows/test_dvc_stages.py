"""A checkout's stages, run by real DVC."""

import threading
import time

import pytest
from pipelines import alive, commit, dvc, git, shell_project

from csd_core.system.errors import CsdError
from flows.runs.pipeline import Pipeline, StageFailedError, StoppedError, stages_of, stale_stages

pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value will soon:DeprecationWarning:dvc")  # DVC's own use
NAMES = ["init", "train@t1", "train@t2", "report"]


def run_all(root):
    lines = []
    with Pipeline(root) as pipeline:
        return {stage.name: pipeline.run(stage, lines.append) for stage in pipeline.stages}, lines


def stage(pipeline, name):
    return next(each for each in pipeline.stages if each.name == name)


def test_the_stages_come_in_an_order_in_which_they_can_run_with_what_they_need(tmp_path):
    stages = stages_of(shell_project(tmp_path / "p"))
    assert [each.name for each in stages] == NAMES
    assert stages[0].needs == ()
    assert stages[3].needs == ("train@t1", "train@t2")


def test_the_names_are_dvcs_own_wherever_the_flow_stands(tmp_path, monkeypatch):
    root = shell_project(tmp_path / "outside" / "inside")
    monkeypatch.chdir(tmp_path / "outside")
    assert [each.name for each in stages_of(root)] == NAMES
    assert stale_stages(root) == set(NAMES)


@pytest.mark.slow
def test_ran_restored_and_unchanged_are_told_apart(tmp_path):
    root = shell_project(tmp_path / "p")
    first, lines = run_all(root)
    assert set(first.values()) == {"ran"}
    assert not any(line.startswith(("> ", "Running stage", "To track")) for line in lines)
    again, _ = run_all(root)
    assert set(again.values()) == {"unchanged"}
    (root / "dvc.lock").unlink()
    for name in ("init", "model-t1", "model-t2", "report"):
        (root / f"{name}.txt").unlink()
    assert set(run_all(root)[0].values()) == {"restored"}


@pytest.mark.slow
def test_what_a_changed_stage_feeds_runs_and_nothing_else(tmp_path):
    root = shell_project(tmp_path / "p", train='cat note-$1.md 2>/dev/null; echo "trained $1" > model-$1.txt')
    run_all(root)
    (root / "model-t2.txt").unlink()
    (root / "model-t2.txt").write_text("edited by hand\n")
    outcomes, _ = run_all(root)
    assert outcomes == {"init": "unchanged", "train@t1": "unchanged", "train@t2": "restored", "report": "unchanged"}


def test_a_stage_that_is_unchanged_starts_no_process(tmp_path, monkeypatch):
    root = shell_project(tmp_path / "p")
    run_all(root)
    with Pipeline(root) as pipeline:
        monkeypatch.setattr("flows.runs.pipeline.subprocess.Popen", None)
        assert [pipeline.run(each, print) for each in pipeline.stages] == ["unchanged"] * 4


def test_lines_come_as_they_are_printed(tmp_path):
    root = shell_project(tmp_path / "p", train='echo early; sleep 2; echo late; echo "x" > model-$1.txt')
    times = {}
    with Pipeline(root) as pipeline:
        pipeline.run(stage(pipeline, "init"), print)
        pipeline.run(stage(pipeline, "train@t1"), lambda line: times.setdefault(line, time.monotonic()))
    assert times["late"] - times["early"] > 1


def test_a_failure_names_the_stage_and_its_own_last_line(tmp_path):
    root = shell_project(tmp_path / "p", train="echo epoch 1; echo params.yaml: a mistake >&2; exit 2")
    with Pipeline(root) as pipeline:
        pipeline.run(stage(pipeline, "init"), print)
        with pytest.raises(StageFailedError, match=r"^train@t1: params.yaml: a mistake$") as failed:
            pipeline.run(stage(pipeline, "train@t1"), print)
    assert failed.value.process_code == 2
    assert not failed.value.transient
    assert failed.value.lines[:2] == ("epoch 1", "params.yaml: a mistake")


@pytest.mark.parametrize("signal", [9, pytest.param(15, marks=pytest.mark.slow)])
def test_a_stage_that_a_signal_ended_may_succeed_next_time(tmp_path, signal):
    root = shell_project(tmp_path / "p", train=f"kill -{signal} $$")
    with Pipeline(root) as pipeline:
        pipeline.run(stage(pipeline, "init"), print)
        with pytest.raises(StageFailedError, match=r"^train@t1: its process was killed") as failed:
            pipeline.run(stage(pipeline, "train@t1"), print)
    assert failed.value.transient


def test_dvc_being_busy_is_transient_and_anything_else_it_says_is_not():
    assert StageFailedError("a", None, ["ERROR: Unable to acquire lock. Most likely another DVC process"]).transient
    other = StageFailedError("a", None, ["ERROR: failed to reproduce 'a': missing data 'x'"])
    assert not other.transient
    assert str(other) == "a: failed to reproduce 'a': missing data 'x'"


def test_leaving_the_pipeline_ends_the_stage_and_all_that_it_started(tmp_path):
    pids = tmp_path / "pids"
    root = shell_project(tmp_path / "p", train=f"sleep 300 & echo $! >> {pids}; echo $$ >> {pids}; wait")
    caught = []

    def work(pipeline):
        try:
            pipeline.run(stage(pipeline, "train@t1"), print)
        except CsdError as error:
            caught.append(error)

    with Pipeline(root) as pipeline:
        pipeline.run(stage(pipeline, "init"), print)
        thread = threading.Thread(target=work, args=(pipeline,))
        thread.start()
        while thread.is_alive() and (not pids.is_file() or len(pids.read_text().split()) < 2):
            time.sleep(0.05)
    thread.join(20)
    assert not thread.is_alive()
    assert [type(each) for each in caught] == [StoppedError]
    assert not any(alive(int(pid)) for pid in pids.read_text().split())


def test_a_stage_cannot_start_once_the_pipeline_was_left(tmp_path):
    root = shell_project(tmp_path / "p")
    with Pipeline(root) as pipeline:
        pass
    with pytest.raises(StoppedError, match="init: stopped with its run"):
        pipeline.run(stage(pipeline, "init"), print)
    assert not (root / "init.txt").exists()


@pytest.mark.slow
def test_a_folder_that_is_not_in_the_checkout_makes_nothing_stale(tmp_path):
    root = shell_project(tmp_path / "p")
    run_all(root)
    commit(root)
    (root / "start.txt").rename(tmp_path / "elsewhere")
    assert stale_stages(root) == set()
    (root / "start.txt").write_text("another start\n")
    assert "init" in stale_stages(root)


def test_what_dvc_cannot_do_is_one_line(tmp_path):
    root = shell_project(tmp_path / "p")
    (root / "dvc.yaml").write_text("stages: [")
    with pytest.raises(CsdError, match="^dvc status: ") as failed:
        stale_stages(root)
    assert "\n" not in str(failed.value)


def test_data_that_dvc_versions_is_no_stage(tmp_path):
    root = shell_project(tmp_path / "p")
    (root / "batch").mkdir()
    (root / "batch" / "a").write_text("a")
    dvc(root, "add", "--quiet", "batch")
    assert git(root, "status", "--porcelain")
    assert [each.name for each in stages_of(root)] == NAMES
