import sys
from pathlib import Path

import pytest

from csd_core.processes import SPINS, WAITING, environment, wait_briefly


def test_the_stages_see_our_python_first(monkeypatch):
    monkeypatch.setenv("PATH", "/elsewhere")
    first, *rest = environment()["PATH"].split(":")
    assert Path(first) == Path(sys.executable).parent
    assert rest == ["/elsewhere"]


def test_threads_of_stages_that_wait_sleep_soon(monkeypatch):
    for name in WAITING:
        monkeypatch.delenv(name, raising=False)
    assert environment()["GOMP_SPINCOUNT"] == SPINS


@pytest.mark.parametrize("name", WAITING)
def test_how_a_person_lets_threads_wait_stays(name):
    chosen = {name: "active"}
    wait_briefly(chosen)
    assert chosen == {name: "active"}


def test_the_number_of_threads_is_no_word_on_how_they_wait():
    chosen = {"OMP_NUM_THREADS": "4"}
    wait_briefly(chosen)
    assert chosen == {"OMP_NUM_THREADS": "4", "GOMP_SPINCOUNT": SPINS}
