"""Numbers and names as sentences have them."""

import math
from collections.abc import Sequence

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")

LISTED = 4
"""Names a sentence lists before it counts."""

DASH = "\N{EN DASH}"
"""Where there is no figure."""


def percent(share: float | None, *, digits: int = 1) -> str:
    """Return a share in percent; a dash where there is none."""
    return DASH if share is None or math.isnan(share) else f"{100 * share:.{digits}f}"


def count(number: int, one: str, many: str | None = None) -> str:
    """Return a number with its noun; small numbers as words."""
    word = NUMBERS[number] if number < len(NUMBERS) else f"{number:,}"
    return f"{word} {one if number == 1 else many or one + 's'}"


def listed(names: Sequence[str]) -> str:
    """Return names as a sentence lists them."""
    if len(names) > LISTED:
        return f"{', '.join(names[: LISTED - 1])} and {len(names) - LISTED + 1} others"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def quoted(name: str) -> str:
    """Return a name from users' data inside a sentence."""
    return f"\N{LEFT DOUBLE QUOTATION MARK}{name}\N{RIGHT DOUBLE QUOTATION MARK}"
