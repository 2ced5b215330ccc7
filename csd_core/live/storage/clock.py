"""Times of writes: later than what they follow, whatever the machine's clock says.

A clock may be set back by a year. What decides whether an item stays deleted is the order of its writes and deletions,
so each gets the time of the clock or, if that is not later, one microsecond more than what it must follow.
"""

from datetime import UTC, datetime

import numpy as np

NEVER = np.datetime64(0, "us")
"""Earlier than any write."""
_TICK = np.timedelta64(1, "us")


def after(*earlier: np.datetime64) -> np.datetime64:
    """Return the time of a write, UTC, that follows others.

    Args:
        earlier: Times that it must be later than.
    """
    now = np.datetime64(datetime.now(UTC).replace(tzinfo=None), "us")
    times = np.array([now, *(time + _TICK for time in earlier)], "datetime64[us]")
    return np.datetime64(int(times.astype(np.int64).max()), "us")
