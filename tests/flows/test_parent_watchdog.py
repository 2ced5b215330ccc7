"""A run that a worker started ends with it."""

import os
import subprocess
import sys
import time

import pytest
from patience import PATIENCE
from pipelines import alive

RUN = """
import os, sys, time
from flows.ui.parent_watchdog import ends_with_its_worker
try:
    with ends_with_its_worker():
        print(os.getpid(), flush=True)
        time.sleep(60)
finally:
    print("the worker reads no more", flush=True)
    open(sys.argv[1], "w").write("cleaned up")
"""
WORKER = """
import subprocess, sys
process = subprocess.Popen([sys.executable, "-c", sys.argv[1], sys.argv[2]], stdout=subprocess.PIPE, text=True)
print(process.stdout.readline(), end="", flush=True)
process.wait()
"""
TERMINATION = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))\n"


@pytest.fixture
def start(tmp_path):
    """Starts a worker with a run; gives the worker and the run's process id."""
    workers = []

    def started(*, by_a_worker):
        environment = {name: value for name, value in os.environ.items() if name != "PREFECT__FLOW_RUN_ID"}
        environment |= {"PREFECT__FLOW_RUN_ID": "1"} if by_a_worker else {}
        worker = subprocess.Popen(
            [sys.executable, "-c", WORKER, TERMINATION + RUN, str(tmp_path / "end")],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        workers.append(worker)
        return worker, int(worker.stdout.readline())

    yield started
    for worker in workers:
        worker.kill()
        worker.wait()
        worker.stdout.close()


def test_a_run_whose_worker_was_killed_ends_and_cleans_up(start, tmp_path):
    worker, run = start(by_a_worker=True)
    worker.kill()
    deadline = time.monotonic() + PATIENCE
    while alive(run) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive(run)
    assert (tmp_path / "end").read_text() == "cleaned up"


def test_a_run_that_a_person_started_outlives_the_shell(start):
    worker, run = start(by_a_worker=False)
    worker.kill()
    time.sleep(2)
    assert alive(run)
    os.kill(run, 9)
