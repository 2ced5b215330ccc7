import pytest

from csd_core.comparison.results.measures import CellMeasures
from csd_core.comparison.running.progress import told
from csd_core.comparison.running.runs import Cell
from csd_core.comparison.running.scheduler import Event
from csd_core.system.console import duration

DONE = CellMeasures(params="", values=())
A, B, C, D = (Cell("tiny", name, 1) for name in "abcd")


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (99, "99 s"), (150, "2 min"), (5_900, "98 min"), (7_200, "2.0 h")]
)
def test_durations_read_as_people_say_them(seconds, words):
    assert duration(seconds) == words


def test_each_finished_cell_is_a_line_with_the_time_that_is_left(capsys):
    with told((A, B, C, D), known=(D,), jobs=2) as progress:
        progress.hear(Event(cell=A, stage="train@t1"))
        progress.hear(Event(cell=A, seconds=60, busy=True, measures=DONE))
        progress.hear(Event(cell=D, seconds=1, measures=DONE))
        progress.hear(Event(cell=B, seconds=30, failure="dvc repro failed"))
        progress.hear(Event(cell=C, seconds=40, busy=True, measures=DONE))
    assert capsys.readouterr().out.splitlines() == [
        "1 of 4 · tiny/a/1: done, 60 s; about 60 s left",
        "2 of 4 · tiny/d/1: nothing was stale, 1 s; about 60 s left",
        "3 of 4 · tiny/b/1: failed, 30 s; about 30 s left",
        "  dvc repro failed",
        "4 of 4 · tiny/c/1: done, 40 s",
    ]
    assert progress.failed == [B]


def test_where_nobody_knows_how_many_run_at_a_time_finished_cells_tell(capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("csd_core.comparison.running.progress.time.monotonic", lambda: now[0])
    with told((A, B, C, D), known=(), jobs=None) as progress:
        now[0] += 30
        for cell in (A, B):
            progress.hear(Event(cell=cell, seconds=30, busy=True, measures=DONE))
    assert [line.rpartition("; ")[2] for line in capsys.readouterr().out.splitlines()] == [
        "about 90 s left",  # one at a time, as far as is known
        "about 30 s left",  # two
    ]
