"""What a person sees while a stage works: a progress bar on a terminal, plain lines elsewhere.

Seconds and rates appear here only; they never enter an artefact.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

PLAIN_INTERVAL = 10.0
"""Seconds between two lines of progress where there is no terminal."""

console = Console(highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """Print one line."""
    console.print(text, markup=False)


class Meter:
    """Progress of one piece of work.

    Attributes:
        done: Units finished so far.
    """

    def __init__(self, description: str, total: int, unit: str, bar: Progress | None) -> None:
        self.done = 0
        self._description, self._total, self._unit, self._bar = description, total, unit, bar
        self._started = self._told = time.monotonic()
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
        elif now - self._told >= PLAIN_INTERVAL:
            self._told = now
            left = (self._total - self.done) / max(rate, 1e-9)
            say(f"{self._description}: {self.done:,} of {self._total:,} · {note} · {left:,.0f} s left")


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
