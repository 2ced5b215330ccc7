"""What a person sees: lines, tables, and how far a stage is: a progress bar on a terminal, plain lines elsewhere.

Seconds and rates appear here only; they never enter an artefact.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from csd_core.system.output import printable

PLAIN_INTERVAL = 10.0
"""Seconds between two lines of progress where there is no terminal."""

GAP = 2
"""Characters between two columns of a table."""

MINUTE, HOUR = 60, 3600


class Terminal(Console):
    """An output that leaves names as they are."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(highlight=False, emoji=False, **settings)

    def on_broken_pipe(self) -> None:
        """Leave it to the program how it ends where nobody reads on."""
        raise BrokenPipeError


console = Terminal(soft_wrap=True)


def echo(text: str) -> None:
    """Print one line."""
    console.print(printable(text), markup=False)


def duration(seconds: float) -> str:
    """Return seconds as people say them."""
    if seconds < 100:  # noqa: PLR2004 - above it minutes read better
        return f"{seconds:.0f} s"
    if seconds < 100 * MINUTE:
        return f"{seconds / MINUTE:.0f} min"
    return f"{seconds / HOUR:.1f} h"


def show(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = (), key: str | None = None
) -> None:
    """Print a table of names and figures as they are.

    Args:
        head: Names of the columns; without any, the rows stand alone.
        rows: Their cells.
        right: Columns of figures, which end at the right.
        key: Column to copy from: where a terminal is too narrow it stands whole on a line of its own.
    """
    lines = [[Text(printable(cell)) for cell in row] for row in rows]
    if any(head):
        lines.insert(0, [Text(name, style="dim") for name in head])
    table = _table_of(lines, right=[name in right for name in head])
    if key is None or not too_wide(table, console):
        print_table(table)
        return
    place = list(head).index(key)
    keys = [line.pop(place) for line in lines]
    rest = [name for name in head if name != key]
    _fit(table := _table_of(lines, right=[name in right for name in rest]), console)
    for identity, line in zip(keys, lines, strict=True):
        console.print(identity)
        row = _table_of([line], right=[name in right for name in rest])
        for column, fitted in zip(row.columns, table.columns, strict=True):
            column.width, column.overflow = fitted.width, "fold"
        console.print(row, soft_wrap=True)


def new_table() -> Table:
    """Return a table without columns, in the form that every command prints."""
    return Table(header_style="dim", box=None, pad_edge=False, padding=(0, GAP, 0, 0))


def print_table(table: Table, to: Console | None = None) -> None:
    """Print a table without cutting anything: cells that do not fit a terminal are folded, elsewhere none is."""
    to = to or console
    _fit(table, to)
    to.print(table, soft_wrap=True)


def _table_of(lines: Sequence[Sequence[Text]], *, right: Sequence[bool]) -> Table:
    table = new_table()
    table.show_header = False
    for each in right:
        table.add_column(justify="right" if each else "left")
    for line in lines:
        table.add_row(*line)
    return table


def _fit(table: Table, to: Console) -> None:
    widths = _widths(table)
    gaps = GAP * (len(widths) - 1)
    if to.is_terminal:
        widths = _narrowed(widths, to.width - gaps)
    for column, width in zip(table.columns, widths, strict=True):
        column.width, column.no_wrap, column.overflow = width, False, "fold"
    table.width = sum(widths) + gaps


def too_wide(table: Table, to: Console) -> bool:
    """Return whether a line of the terminal cannot hold a row."""
    return to.is_terminal and sum(_widths(table)) + GAP * (len(table.columns) - 1) > to.width


def _widths(table: Table) -> list[int]:
    """Return the width that each column needs."""
    return [max(map(_width, [column.header, *column.cells])) for column in table.columns]


def _width(cell: object) -> int:
    text = cell if isinstance(cell, Text) else Text.from_markup(str(cell))
    return max(map(cell_len, text.plain.split("\n")))


def _narrowed(widths: Sequence[int], room: int) -> list[int]:
    """Take from the widest columns until all fit."""
    found = list(widths)
    while sum(found) > room and max(found) > 1:
        found[found.index(max(found))] -= 1
    return found


class Meter:
    """Progress of one piece of work.

    Attributes:
        done: Units finished so far.
    """

    def __init__(self, description: str, total: int, unit: str, bar: Progress | None) -> None:
        self.done = 0
        self._description, self._total, self._unit, self._bar = description, total, unit, bar
        self._started = self._shown_at = time.monotonic()
        self._note = ""
        self._already = 0
        self._task = bar.add_task(description, total=total, note="") if bar else None

    def resume_at(self, done: int) -> None:
        """Start with `done` units finished by an earlier run; they do not count for the rate."""
        self.done = self._already = done
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=done)

    def note(self, text: str) -> None:
        """Show `text` beside the bar, from the next advance on."""
        self._note = text

    def advance(self, units: int = 1) -> None:
        """Finish `units` more."""
        self.done += units
        now = time.monotonic()
        rate = (self.done - self._already) / max(now - self._started, 1e-9)
        note = f"{rate:,.0f} {self._unit}/s" + (f" · {self._note}" if self._note else "")
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=self.done, note=note)
        elif now - self._shown_at >= PLAIN_INTERVAL:
            self._shown_at = now
            left = (self._total - self.done) / max(rate, 1e-9)
            echo(f"{self._description}: {self.done:,} of {self._total:,} · {note} · {duration(left)} left")


@contextmanager
def progress(description: str, *, total: int, unit: str) -> Iterator[Meter]:
    """Yield a meter for `total` units of work.

    Args:
        description: What is being done.
        total: Units of work in all.
        unit: Their plural, such as `images`.
    """
    if not sys.stdout.isatty():
        yield Meter(description, total, unit, None)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        yield Meter(description, total, unit, bar)
