"""Workers that start slowly, and workers that die as they start."""

import logging
import os
import signal
import subprocess
import sys
from itertools import pairwise

import psutil
import pytest
import uvicorn
from services import published, serving
from uvicorn.config import STARTUP_FAILURE

from csd_core.serving import supervisor as module
from csd_core.serving.supervisor import LONGEST_WAIT, STEADY_SECONDS, Supervisor


class Pipe:
    """Its other end answers never, unless it is ready."""

    def __init__(self):
        self.ready = False

    def send(self, _):
        pass

    def poll(self, seconds):
        assert seconds == 0  # whoever waits cannot be stopped
        return self.ready

    def recv(self):
        return True


class Fake:
    """A process that is as a test says."""

    def __init__(self, *_):
        self.process = self
        self.parent_conn = Pipe()
        self.alive, self.exitcode, self.pid = True, None, 1
        self.starts = 0

    def start(self):
        self.starts += 1

    def is_alive(self):
        return self.alive

    def join(self):
        pass

    def end(self, code):
        self.alive, self.exitcode = False, code


@pytest.fixture
def two(monkeypatch):
    """A supervisor of two workers that do nothing, and its clock."""
    monkeypatch.setattr(module, "Process", Fake)
    monkeypatch.setattr("uvicorn.supervisors.multiprocess.Process", Fake)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    clock = [0.0]
    found = Supervisor(uvicorn.Config("a:b", workers=2, log_config=None), [], clock=lambda: clock[0])
    for number, handler in handlers.items():
        signal.signal(number, handler)
    found.init_processes()
    return found, clock


def test_a_worker_that_imports_for_a_minute_lives(two):
    supervisor, clock = two
    before = list(supervisor.processes)
    for _ in range(200):
        clock[0] += 0.5
        supervisor.keep_subprocess_alive()
    assert supervisor.processes == before


def test_a_worker_that_dies_at_its_start_is_started_ever_more_slowly_and_it_is_said_why(two, caplog):
    supervisor, clock = two
    caplog.set_level(logging.ERROR, "csd.serving")
    starts = []
    while clock[0] < 600:
        if supervisor.processes[0].alive:
            starts.append(clock[0])
            supervisor.processes[0].end(-9)
        supervisor.keep_subprocess_alive()
        clock[0] += 0.5
    waits = [after - before for before, after in pairwise(starts)]
    assert len(starts) < 30
    assert waits == sorted(waits)
    assert waits[0] < 3
    assert LONGEST_WAIT <= waits[-1] <= LONGEST_WAIT + 1
    assert len(caplog.records) <= len(starts)
    assert caplog.records[0].reason.startswith("ended by SIGKILL (out of memory?) ")


def test_a_worker_that_dies_after_long_is_replaced_at_once(two):
    supervisor, clock = two
    clock[0] += STEADY_SECONDS + 1
    supervisor.processes[1].end(1)
    supervisor.keep_subprocess_alive()
    supervisor.keep_subprocess_alive()
    assert supervisor.processes[1].alive


def test_a_service_whose_workers_cannot_start_ends(two):
    supervisor, _ = two
    supervisor.processes[0].end(STARTUP_FAILURE)
    supervisor.keep_subprocess_alive()
    assert supervisor.should_exit.is_set()
    assert "could not start" in supervisor.failed


def test_a_service_that_has_answered_goes_on_when_a_new_worker_cannot_start(two):
    supervisor, _ = two
    supervisor.processes[1].parent_conn.ready = True
    for _ in range(2):
        supervisor.keep_subprocess_alive()
    supervisor.processes[0].end(STARTUP_FAILURE)
    supervisor.keep_subprocess_alive()
    assert not supervisor.should_exit.is_set()


SLOW = "import os, sys, time\nif '--multiprocessing-fork' in sys.argv: time.sleep(9)\n"
"""A machine on which a worker imports for longer than uvicorn's supervisor waits."""
DYING = "import os, sys\nif '--multiprocessing-fork' in sys.argv: os._exit(7)\n"


@pytest.mark.slow
def test_workers_that_import_for_longer_than_a_ping_takes_are_ready_in_the_end(tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text(SLOW)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with serving(published(tmp_path / "project", "none"), "--workers", "2") as running:
        lines = running.log()
        assert sum("Started server process" in line.get("message", "") for line in lines) <= 2
        assert not any(line.get("message") == "worker ended" for line in lines)
        assert running.stop() in (0, -signal.SIGTERM)


@pytest.mark.slow
def test_workers_that_die_as_they_start_are_not_started_at_full_speed_and_can_be_stopped(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(DYING)
    project = published(tmp_path / "project", "none")
    process = subprocess.Popen(
        [sys.executable, "-m", "csd_core.cli", "serve", "--port", "0", "--workers", "2"],
        cwd=project.root,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )
    lines = []
    for line in process.stderr:
        lines.append(line)
        if sum('"worker ended"' in each for each in lines) == 6:
            break
    psutil.Process(process.pid).terminate()
    process.communicate(timeout=60)
    assert '"next_start_s": 4.0' in lines[-1]
    assert "ended with code 7" in lines[-1]
