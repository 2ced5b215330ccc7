import os
import subprocess
import sys
from pathlib import Path

import pytest

from csd_core.system.processes import SPINS, WAITING, environment, wait_briefly


def test_the_stages_see_our_python_first(monkeypatch):
    monkeypatch.setenv("PATH", "/elsewhere")
    first, *rest = environment()["PATH"].split(":")
    assert Path(first) == Path(sys.executable).parent
    assert rest == ["/elsewhere"]


@pytest.mark.parametrize(
    ("program", "chosen", "read"),
    [
        (["csd_core.stages.train", "none"], {}, f"GOMP_SPINCOUNT = '{SPINS}'"),
        (["csd_core.cli", "items", "--help"], {}, f"GOMP_SPINCOUNT = '{SPINS}'"),
        (["csd_core.stages.train", "none"], {"OMP_WAIT_POLICY": "active"}, "OMP_WAIT_POLICY = 'ACTIVE'"),
    ],
    ids=["a stage", "a command", "a stage where a person chose"],
)
def test_openmp_reads_how_to_wait_when_a_program_loads_it(program, chosen, read, tmp_path):
    given = {name: value for name, value in os.environ.items() if name not in WAITING}
    done = subprocess.run(
        [sys.executable, "-m", *program],
        cwd=tmp_path,
        env={**given, **chosen, "OMP_DISPLAY_ENV": "verbose"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert read in done.stderr


@pytest.mark.parametrize("name", WAITING)
def test_how_a_person_lets_threads_wait_stays(name):
    chosen = {name: "active"}
    wait_briefly(chosen)
    assert chosen == {name: "active"}


def test_the_number_of_threads_is_no_word_on_how_they_wait():
    chosen = {"OMP_NUM_THREADS": "4"}
    wait_briefly(chosen)
    assert chosen == {"OMP_NUM_THREADS": "4", "GOMP_SPINCOUNT": SPINS}
