"""Running cells with a stand-in for DVC, which prints what DVC prints and leaves a recorded cell behind."""

import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from patience import PATIENCE

from csd_core.comparison.results.measures import CellMeasures
from csd_core.comparison.running import child, scheduler
from csd_core.comparison.running.run_folder import Bench, Code
from csd_core.comparison.running.runs import Cell, params_of
from csd_core.comparison.running.scheduler import Run, finished
from csd_core.comparison.running.spec import Spec

ROOT = Path(__file__).parents[2]
RECORDED = Path(__file__).parent / "recorded"
CODE = Code(files={"dvc.yaml": b"stages: {}\n", "csd_core/__init__.py": b""})

SPEC = Spec.model_validate(
    {
        "profiles": {"tiny": {}},
        "contenders": {name: {} for name in ("finetune", "lwf", "csd")},
        "seeds": [1, 2],
        "reference": "csd",
    }
)


@pytest.fixture(scope="module")
def params():
    return params_of(SPEC, project=ROOT, where="mine.yaml")


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Make `dvc` this shell script, and give the comparison's folder."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setattr(child, "environment", lambda: {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"})
    # what it makes has no images (tests/stages/test_queries_of_test.py asks real ones)
    monkeypatch.setattr(scheduler, "ask_test_queries", lambda *_: ())

    def write(script):
        (programs / "dvc").write_text(f"#!/bin/sh\n{script}\n")
        (programs / "dvc").chmod(0o755)
        return tmp_path / "work"

    return write


WORKS = f"""
echo "Running stage 'train@t2':"
cp -r {RECORDED}/. .
"""


def test_cells_are_run_measured_and_remembered(stand_in, params):
    folder = stand_in(WORKS)
    run = Run(params, folder=folder, code=CODE, jobs=2)
    events = list(run.events(list(params)))
    ended = [event for event in events if event.stage is None]
    assert {event.cell for event in ended} == set(params)
    assert all(event.busy and event.failure is None for event in ended)
    assert {event.stage for event in events if event.stage} == {"train@t2"}
    assert finished(folder, params) == {event.cell: event.measures for event in ended}
    bench = Bench.of(Cell("tiny", "lwf", 2), folder)
    assert bench.log.read_text().splitlines()[1:] == ["Running stage 'train@t2':"]
    seconds = [each for each in CellMeasures.load(bench.measures).values if each.measure == "train_seconds"]
    assert [each.after for each in seconds] == ["t2"]


def test_a_cell_in_which_nothing_was_stale_is_measured_again_by_other_code_alone(stand_in, params, monkeypatch):
    some = [cell for cell in params if cell.contender == "csd"]
    folder = stand_in(WORKS)
    list(Run(params, folder=folder, code=CODE, jobs=1).events(some))
    folder = stand_in("true")
    measured = []
    monkeypatch.setattr(scheduler, "ask_test_queries", lambda root, _: measured.append(root) or ())
    events = list(Run(params, folder=folder, code=CODE, jobs=1).events(some))
    assert {event.cell: event.measures for event in events} == finished(folder, params)
    assert not measured
    list(Run(params, folder=folder, code=Code(files={**CODE.files, "csd_core/new.py": b""}), jobs=1).events(some))
    assert len(measured) == len(some)


def test_the_cells_of_a_profile_and_seed_wait_for_each_other(stand_in, params):
    folder = stand_in(
        "mkdir ../../running-in-${PWD##*/} || exit 1\nsleep 0.2\nrmdir ../../running-in-${PWD##*/}" + WORKS
    )
    events = Run(params, folder=folder, code=CODE, jobs=4).events(list(params))
    assert [event.failure for event in events if event.stage is None] == [None] * 6


def test_a_cell_that_fails_tells_the_end_of_its_log_and_the_others_go_on(stand_in, params):
    folder = stand_in(f"""
case $PWD in
  */lwf/seed-1) for line in $(seq 20); do echo "line $line"; done; echo "loss is nan" >&2; exit 5;;
esac
{WORKS}""")
    cells = [cell for cell in params if cell.seed == 1]
    Bench.of(cells[1], folder).root.mkdir(parents=True)
    CellMeasures(params=params[cells[1]].digest, values=()).save(Bench.of(cells[1], folder).measures)
    events = Run(params, folder=folder, code=CODE, jobs=1).events(cells)
    ended = {event.cell.contender: event for event in events if event.stage is None}
    assert list(ended) == ["finetune", "lwf", "csd"]
    shown = ended["lwf"].failure.splitlines()
    log = Bench.of(cells[1], folder).log
    assert shown[0] == f"dvc repro failed; the end of {log}:"
    assert [line.strip() for line in shown[1:]] == [*(f"line {number}" for number in range(14, 21)), "loss is nan"]
    assert "line 1\n" in log.read_text()
    assert {cell.contender for cell in finished(folder, params)} == {"finetune", "csd"}


def test_what_was_measured_with_other_parameters_does_not_count(stand_in, params):
    folder = stand_in(WORKS)
    some = [cell for cell in params if cell.contender == "csd"]
    list(Run(params, folder=folder, code=CODE, jobs=1).events(some))
    changed = SPEC.model_copy(update={"profiles": {"tiny": {"training": {"first": {"epochs": 9}}}}})
    assert set(finished(folder, params)) == set(some)
    damaged = Bench.of(some[0], folder).measures
    damaged.write_bytes(damaged.read_bytes()[:-9])
    assert set(finished(folder, params)) == set(some[1:])
    assert finished(folder, params_of(changed, project=ROOT, where="mine.yaml")) == {}


@pytest.fixture
def interruptible():
    """Children start with ears for SIGINT, even where pytest runs in the background of a shell, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_interrupted_the_run_ends_its_children(stand_in, params):
    folder = stand_in("echo \"Running stage 'train@t1':\"\necho $$ > pid\nexec sleep 900")
    events = Run(params, folder=folder, code=CODE, jobs=2).events(list(params))
    first = next(events)
    assert first.stage == "train@t1"
    pid = Bench.of(first.cell, folder).root / "pid"
    while not pid.is_file() or not pid.read_text():
        time.sleep(0.01)
    started = time.monotonic()
    events.close()
    assert time.monotonic() - started < PATIENCE
    assert not Path(f"/proc/{int(pid.read_text())}").exists()
    assert finished(folder, params) == {}


def test_a_child_that_does_not_listen_is_killed(stand_in, params, monkeypatch):
    monkeypatch.setattr(child, "GRACE", 0.3)
    folder = stand_in("trap '' INT\necho $$ > pid\necho \"Running stage 'train@t1':\"\nwhile :; do sleep 1; done")
    events = Run(params, folder=folder, code=CODE, jobs=1).events(list(params))
    pid = int((Bench.of(next(events).cell, folder).root / "pid").read_text())
    assert Path(f"/proc/{pid}").exists()
    events.close()
    assert not Path(f"/proc/{pid}").exists()
    assert finished(folder, params) == {}


def test_a_bench_is_brought_up_to_date_and_what_is_equal_is_not_touched(tmp_path):
    bench = Bench.of(Cell("tiny", "csd", 1), tmp_path)
    bench.set_up(CODE, "a: 1\n")
    init = bench.root / "csd_core" / "__init__.py"
    before = init.stat().st_mtime_ns, init.stat().st_ino
    (bench.root / "csd_core" / "__pycache__").mkdir()
    (bench.root / "csd_core" / "__pycache__" / "x.pyc").touch()
    (bench.root / "csd_core" / "gone.py").touch()
    bench.set_up(Code(files={**CODE.files, "csd_core/new.py": b"1"}), "a: 2\n")
    assert (init.stat().st_mtime_ns, init.stat().st_ino) == before
    files = {path.relative_to(bench.root).as_posix() for path in bench.root.rglob("*") if path.is_file()}
    code = {f"csd_core/{name}" for name in ("__init__.py", "new.py", "__pycache__/x.pyc")}
    assert files == {"dvc.yaml", "params.yaml", ".dvc/config", *code}
    assert (bench.root / "params.yaml").read_text() == "a: 2\n"
    assert "dir = ../../../../../cache\n" in (bench.root / ".dvc" / "config").read_text()


def test_the_code_of_a_project_is_the_installed_csd_or_that_of_a_checkout(tmp_path):
    for name in ("dvc.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, tmp_path / name)
    installed = set(Code.of(tmp_path).files)
    assert {"dvc.yaml", ".dvcignore", "csd_core/stages/train.py", "csd_core/project/profiles/tiny.yaml"} <= installed
    (tmp_path / "csd_core" / "stages" / "__pycache__").mkdir(parents=True)
    (tmp_path / "csd_core" / "stages" / "__pycache__" / "a.pyc").touch()
    (tmp_path / "csd_core" / "stages" / "code.py").write_text("1")
    assert set(Code.of(tmp_path).files) == {"dvc.yaml", ".dvcignore", "csd_core/stages/code.py"}
