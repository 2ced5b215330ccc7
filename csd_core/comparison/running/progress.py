"""What a person sees while a comparison runs: one line for each finished cell, with the time that is left."""

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from statistics import fmean

from rich.status import Status

from csd_core.comparison.running.runs import Cell
from csd_core.comparison.running.scheduler import Event
from csd_core.system.console import console, duration, echo


class RunProgress:
    """The state of a run.

    Attributes:
        failed: Cells that failed, in order.
    """

    def __init__(
        self, cells: Collection[Cell], *, known: Collection[Cell], jobs: int | None, status: Status | None
    ) -> None:
        self.failed: list[Cell] = []
        self._left, self._known, self._total = set(cells), set(known), len(cells)
        self._jobs, self._status, self._started = jobs, status, time.monotonic()
        self._spent: dict[str, list[float]] = {}
        self._at: dict[Cell, str] = {}

    def hear(self, event: Event) -> None:
        """Take in what a worker tells, and print it if a person wants to know."""
        if event.stage is not None:
            self._at[event.cell] = event.stage
        else:
            self._at.pop(event.cell, None)
            self._left.discard(event.cell)
            if event.busy:
                self._spent.setdefault(event.cell.profile, []).append(event.seconds)
            if event.failure:
                self.failed.append(event.cell)
            done = self._total - len(self._left)
            outcome = "failed" if event.failure else "done" if event.busy else "nothing was stale"
            echo(f"{done} of {self._total} · {event.cell}: {outcome}, {duration(event.seconds)}{self._rest()}")
            if event.failure:
                echo(f"  {event.failure}")
        if self._status:
            self._status.update(" · ".join(f"{cell}: {stage}" for cell, stage in sorted(self._at.items())) or "working")

    def _rest(self) -> str:
        """Return the time that is left, from what cells of the same profile took so far."""
        waiting = [cell for cell in self._left if cell not in self._known]
        every = [seconds for spent in self._spent.values() for seconds in spent]
        if not waiting or not every:
            return ""
        jobs = self._jobs or max(1.0, sum(every) / max(1e-9, time.monotonic() - self._started))
        seconds = sum(fmean(self._spent.get(cell.profile, every)) for cell in waiting) / jobs
        return f"; about {duration(seconds)} left"


@contextmanager
def told(cells: Collection[Cell], *, known: Collection[Cell], jobs: int | None) -> Iterator[RunProgress]:
    """Yield what hears a run's events; on a terminal the stages at work are shown too.

    Args:
        cells: Of this run.
        known: Those that an earlier run finished: they take no time unless code changed.
        jobs: Cells at a time; None where that is seen only as they end.
    """
    if not console.is_terminal:
        yield RunProgress(cells, known=known, jobs=jobs, status=None)
        return
    with console.status("working") as status:
        yield RunProgress(cells, known=known, jobs=jobs, status=status)
