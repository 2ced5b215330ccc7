"""How fast work goes on: one rate for all who do it, and a count of what they have done."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from csd_core.system.errors import ParamsError

Rows = Callable[[int], None]


class Schedule:
    """When rows may be worked on: at most so many a second, spread evenly.

    A token bucket that never fills up: time in which nobody asked is not made up for later, so what is being protected
    (a store of images, a machine that also serves queries) never sees a burst beyond one request of each process.
    """

    def __init__(self, rows_per_second: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Hold the rate and the clock; bookings are held by whoever shares them out.

        Raises:
            ParamsError: if the rate is not positive.
        """
        if not rows_per_second > 0:
            raise ParamsError(f"max_rows_per_second is {rows_per_second}, it must be above 0")
        self._rate, self._clock = rows_per_second, clock

    def book(self, rows: int, *, free_at: float) -> tuple[float, float]:
        """Return the seconds until `rows` more may start, and when the next ones may.

        Args:
            rows: How many.
            free_at: When the last booking let the next ones start; 0 for the first.
        """
        now = self._clock()
        start = max(now, free_at)
        return start - now, start + rows / self._rate


def ignore(_rows: int) -> None:
    """Report to nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """What a piece of work calls around every few rows.

    Attributes:
        throttle: Waits until so many more may be worked on; None for full speed.
        report: Told of finished rows.
    """

    throttle: Rows | None = None
    report: Rows = ignore

    def admit(self, rows: int) -> None:
        """Wait until `rows` more may be worked on."""
        if self.throttle:
            self.throttle(rows)
