"""How many requests a process takes at a time, and how slowly it refuses the others.

A refusal is cheap, but a client that asks again at once makes it cheap work without an end, which leaves none of the
processor for answers. So refusals are paced: few are sent at once, many one after the other.
"""

import time
from collections.abc import Callable

REFUSALS_PER_SECOND = 100
"""Of one process, once more than BURST wait to be refused."""
BURST = 25
"""Refusals that are sent at once."""
LONGEST_REFUSAL = 2.0
"""Seconds that a refusal is held back at most."""


class Admission:
    """The requests that a process answers at a time.

    Args:
        most: Of them.
        most_bytes: Of bodies that they hold together.
        clock: Seconds, never going back.

    Attributes:
        waiting: Requests that are being answered.
        held: Bytes of their bodies.
    """

    def __init__(self, most: int, most_bytes: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._most_bytes, self._clock = most, most_bytes, clock
        self._next_refusal = -float("inf")
        self.waiting = 0
        self.held = 0

    @property
    def full(self) -> bool:
        """Whether there is no room for one more request."""
        return self.waiting >= self._most

    def hold(self, count: int) -> bool:
        """Count bytes of a body that came in; return False if all bodies together are too large."""
        self.held += count
        return self.held <= self._most_bytes

    def refusal_delay(self) -> float:
        """Return for how many seconds to hold back the next refusal, so that few are sent a second."""
        now = self._clock()
        step = 1 / REFUSALS_PER_SECOND
        self._next_refusal = max(self._next_refusal, now - BURST * step) + step
        self._next_refusal = min(self._next_refusal, now + LONGEST_REFUSAL)
        return max(0.0, self._next_refusal - now)
