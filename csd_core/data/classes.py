"""In which order class names are learned.

The outcome is written into params.yaml when a task is created, so a class that arrives later reorders nothing.
"""

import hashlib
import re
from collections.abc import Iterable
from typing import Literal

NaturalKey = tuple[tuple[tuple[int, int, str], ...], str]


def natural_key(name: str) -> NaturalKey:
    """Sorts "2" before "10" and "b" before "C"; names that differ have different keys."""
    parts = re.split(r"([0-9]+)", name.casefold())
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part), name


def order_classes(classes: Iterable[str], order: Literal["natural", "seeded"], seed: int) -> tuple[str, ...]:
    """Class names, each once, in the order in which they are to be learned.

    Args:
        classes: In any order.
        order: `natural` sorts by `natural_key`; `seeded` by a hash of seed and name, so that leaving a class out does
            not move the others.
        seed: Of the seeded order.
    """
    names = sorted(set(classes), key=natural_key)
    if order == "seeded":
        names.sort(key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())
    return tuple(names)
