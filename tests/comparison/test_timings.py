import pytest

from csd_core.comparison.running import timings
from csd_core.comparison.running.timings import StageTime, Timings, Watch


@pytest.fixture
def clock(monkeypatch):
    """Seconds that a test sets."""
    now = [100.0]
    monkeypatch.setattr(timings.time, "monotonic", lambda: now[0])
    return now


def watch(file, clock, *script):
    """Let lines of DVC pass, each with the seconds that go by after it."""
    seen = Watch(file)
    for line, seconds in script:
        seen.see(line)
        clock[0] += seconds
    return seen


def test_a_stage_lasts_until_dvc_speaks_of_another(tmp_path, clock):
    file = tmp_path / "timings.json"
    watch(
        file,
        clock,
        ("Running stage 'train@t1':\n", 1),
        ("> python -m csd_core.stages.train t1\n", 3),
        ("epoch 1/4: ce 0.1\n", 7),
        ("Updating lock file 'dvc.lock'\n", 50),
        ("Running stage 'export@t1':\n", 2),
        ("Stage 'check@t1' is cached - skipping run, checking out outputs\n", 50),
        ("Running stage 'report':\n", 4),
    ).stop(finished=True)
    assert Timings.of(file).stages == {
        "train@t1": StageTime(seconds=11, finished=True),
        "export@t1": StageTime(seconds=2, finished=True),
        "report": StageTime(seconds=4, finished=True),
    }


def test_an_interrupted_stage_adds_up_over_its_runs(tmp_path, clock):
    file = tmp_path / "timings.json"
    watch(file, clock, ("Running stage 'train@t1':", 10), ("epoch 1", 10), ("epoch 2", 0))
    assert Timings.of(file).stages == {"train@t1": StageTime(seconds=20, finished=False)}
    watch(file, clock, ("Running stage 'train@t1':", 5)).stop(finished=True)
    assert Timings.of(file).stages == {"train@t1": StageTime(seconds=25, finished=True)}
    watch(file, clock, ("Running stage 'train@t1':", 7), ("ERROR: failed to reproduce 'train@t1'", 0))
    assert Timings.of(file).stages == {"train@t1": StageTime(seconds=7, finished=False)}


def test_a_stage_that_comes_from_the_cache_has_no_time(tmp_path, clock):
    file = tmp_path / "timings.json"
    watch(file, clock, ("Running stage 'train@t1':", 5)).stop(finished=True)
    watch(file, clock, ("Stage 'train@t1' didn't change, skipping", 5))
    assert set(Timings.of(file).stages) == {"train@t1"}
    watch(file, clock, ("Stage 'train@t1' is cached - skipping run, checking out outputs", 5))
    assert Timings.of(file).stages == {}


def test_a_cell_in_which_nothing_ran_has_no_times(tmp_path):
    assert Timings.of(tmp_path / "timings.json").stages == {}
