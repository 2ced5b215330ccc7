import signal
import subprocess
import sys
import time

import psutil
import pytest
from patience import PATIENCE

from flows.ui.children import Child

WORKER = """
import os, pathlib, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
folder = pathlib.Path({folder!r})
for number, run in enumerate({runs!r}):
    process = subprocess.Popen([sys.executable, "-c", run], start_new_session=True)
    (folder / f"run-{{number}}").write_text(str(process.pid))
(folder / "ready").touch()
time.sleep(900)
"""
"""A worker that waits for its runs when it is told to end."""
FAITHFUL = """
import os, pathlib, time
parent = os.getppid()
pathlib.Path({folder!r}, f"watches-{{os.getpid()}}").touch()
while os.getppid() == parent: time.sleep(0.05)
"""
"""A run that ends when its worker is gone."""
STUBBORN = """
import pathlib, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
stage = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(900)"], start_new_session=True)
(pathlib.Path({folder!r}) / "stage").write_text(str(stage.pid))
time.sleep(900)
"""
"""A run that does not, with a stage of its own."""


def child(tmp_path, program):
    return Child([sys.executable, "-c", program], log=tmp_path / "logs" / "child.log", environment={})


def await_that(holds, otherwise, *, within=PATIENCE):
    deadline = time.monotonic() + within
    while not holds():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.02)


def await_content(file):
    await_that(lambda: file.exists() and file.read_text(), f"{file.name} did not appear")
    return file.read_text()


def await_ready(tmp_path):
    await_that((tmp_path / "ready").exists, "the worker is not ready")


def worker_with(tmp_path, *runs):
    worker = child(tmp_path, WORKER.format(folder=str(tmp_path), runs=list(runs)))
    await_ready(tmp_path)
    return worker, [psutil.Process(int(await_content(tmp_path / f"run-{number}"))) for number in range(len(runs))]


def ended(process):
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def told():
    return []


def test_a_child_writes_its_log_anew_and_tells_its_last_lines(tmp_path):
    for words in ("first", "second"):
        process = child(tmp_path, f"[print('{words}', number) for number in range(20)]")
        process.process.wait()
    log = tmp_path / "logs" / "child.log"
    assert log.read_text().splitlines()[0] == "second 0"
    assert process.said(lines=2) == f"  second 18\n  second 19\n(log: {log})"


def test_a_child_is_in_a_session_of_its_own(tmp_path):
    process = child(tmp_path, "import os; print(os.getsid(0) == os.getpid())")
    process.process.wait()
    assert process.said().startswith("  True")


def test_a_child_that_is_told_to_end_does(tmp_path):
    process = child(tmp_path, "import time; time.sleep(900)")
    assert process.exit_code is None
    process.end()
    assert process.exit_code == -signal.SIGTERM


def test_a_child_that_will_not_end_is_killed(tmp_path):
    process = child(tmp_path, WORKER.format(folder=str(tmp_path), runs=[]))
    await_ready(tmp_path)
    process.end(patience=0.2)
    assert process.exit_code == -signal.SIGKILL


def test_an_idle_worker_ends_without_a_word(tmp_path, told):
    worker = child(tmp_path, "import time; time.sleep(900)")
    worker.end_with_runs(told.append)
    assert worker.exit_code == -signal.SIGTERM
    assert told == []


def test_a_worker_that_ended_already_is_left_in_peace(tmp_path, told):
    worker = child(tmp_path, "")
    worker.process.wait()
    worker.end_with_runs(told.append)
    assert told == []


def faithful(tmp_path):
    return FAITHFUL.format(folder=str(tmp_path))


def await_watching(tmp_path, *runs):
    for run in runs:
        await_that(lambda run=run: (tmp_path / f"watches-{run.pid}").exists(), "the run does not watch its worker")


def test_runs_that_see_their_worker_gone_end_by_themselves(tmp_path, told):
    worker, runs = worker_with(tmp_path, faithful(tmp_path), faithful(tmp_path))
    await_watching(tmp_path, *runs)
    started = time.monotonic()
    worker.end_with_runs(told.append, patience=600)
    assert time.monotonic() - started < PATIENCE
    assert all(map(ended, runs))
    assert worker.exit_code == -signal.SIGKILL
    assert told == [2]


def test_runs_that_do_not_are_killed_with_all_they_started(tmp_path, told):
    worker, runs = worker_with(tmp_path, STUBBORN.format(folder=str(tmp_path)), faithful(tmp_path))
    stage = psutil.Process(int(await_content(tmp_path / "stage")))
    worker.end_with_runs(told.append, patience=0.5)
    assert [ended(process) for process in (*runs, stage)] == [True, True, True]
    assert told == [2]


def test_a_stage_that_its_run_left_behind_is_killed(tmp_path, told):
    leaves = STUBBORN.format(folder=str(tmp_path)).replace("time.sleep(900)\n", faithful(tmp_path).lstrip("\n"))
    worker, (run,) = worker_with(tmp_path, leaves)
    stage = psutil.Process(int(await_content(tmp_path / "stage")))
    await_watching(tmp_path, run)
    worker.end_with_runs(told.append, patience=600)
    assert [ended(process) for process in (run, stage)] == [True, True]


def test_an_idle_worker_that_will_not_end_is_killed(tmp_path, told):
    worker, _ = worker_with(tmp_path)
    worker.end_with_runs(told.append, idle=0.2)
    assert worker.exit_code == -signal.SIGKILL
    assert told == []


@pytest.mark.xfail(sys.platform != "linux", reason="only Linux ties them", run=False)
def test_a_child_cannot_outlive_us(tmp_path):
    program = (
        "import sys, time; from pathlib import Path; from flows.ui.children import Child\n"
        f"started = Child([sys.executable, '-c', 'import time; time.sleep(900)'], log=Path({str(tmp_path / 'log')!r}), "
        "environment={})\nprint(started.process.pid, flush=True); time.sleep(900)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as us:
        started = psutil.Process(int(us.stdout.readline()))
        us.kill()
    await_that(lambda: ended(started), "it lives")
