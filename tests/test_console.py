import sys

from csd_core import console
from csd_core.console import progress, say


def test_off_a_terminal_progress_is_plain_lines(capsys, monkeypatch):
    monkeypatch.setattr(console, "PLAIN_INTERVAL", 0.0)
    with progress("reading", total=4, unit="images") as meter:
        meter.note("so far so good")
        meter.advance(2)
        meter.advance(2)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("reading: 2 of 4 · ")
    assert "images/s · so far so good" in lines[0]


def test_a_short_piece_of_work_prints_nothing(capsys):
    with progress("reading", total=1, unit="images") as meter:
        meter.advance()
    assert capsys.readouterr().out == ""


def test_resumed_work_does_not_count_for_the_rate(capsys, monkeypatch):
    monkeypatch.setattr(console, "PLAIN_INTERVAL", 0.0)
    monkeypatch.setattr(console.time, "monotonic", iter([0.0, 1.0]).__next__)
    with progress("reading", total=1000, unit="images") as meter:
        meter.resume_at(900)
        meter.advance(50)
    assert "950 of 1,000 · 50 images/s · 1 s left" in capsys.readouterr().out


def test_on_a_terminal_progress_is_a_bar(monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    with progress("reading", total=2, unit="images") as meter:
        meter.resume_at(1)
        meter.advance()
        assert meter.done == 2
    assert "images/s" not in capsys.readouterr().err


def test_brackets_in_a_line_are_no_markup(capsys):
    say("classes [a, b]")
    assert capsys.readouterr().out == "classes [a, b]\n"
