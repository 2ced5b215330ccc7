"""Tables and lines: nothing is cut, and a name is printed as it is."""

import io

import pytest

from csd_core.system import console as printing
from csd_core.system.console import Terminal, echo, show

HEAD = ("id", "label", "task", "origin", "written (UTC)", "embedded by")
ROWS = [
    ("3f" * 32, "shoe", "t1", "pipeline", "2026-01-31 12:00:00", "0123456789ab"),
    (
        "9a" * 32,
        "a class with a very long name of many words " * 3,
        "task-of-january",
        "live",
        "2026-01-31 12:00:01",
        "",
    ),
]


@pytest.fixture
def printed(monkeypatch):
    """What is printed to a terminal of a width, or to a pipe."""

    def to(width, call, *arguments, **options):
        written = io.StringIO()
        terminal = {"force_terminal": True, "color_system": None, "width": width} if width else {"width": 80}
        monkeypatch.setattr(printing, "console", Terminal(file=written, soft_wrap=True, **terminal))
        call(*arguments, **options)
        return written.getvalue()

    return to


def squeezed(text):
    return "".join(text.split())


@pytest.mark.parametrize("width", [200, 80, 60, 40])
def test_a_terminal_shows_every_character_of_a_table(printed, width):
    text = printed(width, show, HEAD, ROWS)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    assert sorted(squeezed(text)) == sorted(squeezed("".join(map("".join, [HEAD, *ROWS]))))


def test_words_and_heads_stay_whole_where_a_long_cell_can_give_way(printed):
    lines = printed(80, show, HEAD, ROWS[:1]).splitlines()
    assert lines[0].split() == ["id", "label", "task", "origin", "written", "(UTC)", "embedded", "by"]
    assert "2026-01-31 12:00:00  0123456789ab" in lines[1]


@pytest.mark.parametrize("width", [80, 66])
def test_an_id_to_copy_stands_whole_on_a_line_of_its_own_where_the_table_is_too_wide(printed, width):
    lines = printed(width, show, HEAD, ROWS, key="id").splitlines()
    assert {"id", "3f" * 32, "9a" * 32} <= set(lines)
    assert max(map(len, lines)) <= width


def test_a_pipe_gets_each_row_whole_on_one_line(printed):
    lines = printed(None, show, HEAD, ROWS, key="id").splitlines()
    assert len(lines) == 1 + len(ROWS)
    for line, row in zip(lines[1:], ROWS, strict=True):
        assert all(cell.strip() in line for cell in row)


@pytest.mark.parametrize("name", ["[bold]x[/]", "[/oops]", ":heart:", "https://x.org/1", "naïve", "日本"])
def test_a_name_is_printed_as_it_is(printed, name):
    assert printed(80, show, ("name",), [(name,)]).split() == ["name", name]
    assert printed(80, echo, name) == f"{name}\n"


def test_a_name_does_not_steer_the_terminal(printed):
    name = "a\x1b[2Jb\x07\x9b"
    assert printed(80, echo, name) == "a\\x1b[2Jb\\x07\\x9b\n"
    assert printed(80, show, ("name",), [(name,)]).split() == ["name", "a\\x1b[2Jb\\x07\\x9b"]


def test_figures_end_at_the_right(printed):
    lines = printed(80, show, ("name", "rows"), [("a", "7"), ("b", "1,000")], right=("rows",)).splitlines()
    assert [line.rstrip() for line in lines] == ["name   rows", "a         7", "b     1,000"]
