"""Some of many: evenly spread, or shared out between outcomes and classes."""

import numpy as np
import numpy.typing as npt

from csd_core.retrieval.metrics import Bools, Ints

Strings = npt.NDArray[np.str_]


def evenly(count: int, most: int) -> Ints:
    """Return (min(count, most),) ascending positions below `count`, evenly spread."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(np.intp) if count else np.empty(0, np.intp)


def choose(outcomes: Strings, labels: Strings, *, possible: Bools, count: int) -> Ints:
    """Return positions of queries to show: lost, gained, then others, each spread over the classes.

    Lost and gained ones share the places; what one of them leaves free the other takes, and then the others.

    Args:
        outcomes: (N,) lost, gained, kept or missed.
        labels: (N,) classes.
        possible: (N,) whether the query can hit at all.
        count: How many, at most.
    """
    lost, gained, others = (
        _spread(np.flatnonzero(np.isin(outcomes, group) & possible), labels)
        for group in (("lost",), ("gained",), ("kept", "missed"))
    )
    half = max(-(-count // 2), count - len(gained))
    changed = lost[:half] + gained[: count - len(lost[:half])]
    return np.array((changed + others)[:count], np.intp)


def _spread(positions: Ints, labels: Strings) -> list[int]:
    """Return the first of every class, then the second of every class, and so on; classes in order of first sight."""
    turns: dict[str, int] = {}
    ranked = []
    for place, position in enumerate(positions.tolist()):
        turn = turns[labels[position]] = turns.get(labels[position], -1) + 1
        ranked.append((turn, place, position))
    return [position for _, _, position in sorted(ranked)]
