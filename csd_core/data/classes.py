"""In which order class names are learned, and how they are dealt out to tasks.

The outcome is written into params.yaml when a task is created, so a class that arrives later reorders nothing.
"""

import hashlib
import re
from collections.abc import Collection, Iterable
from itertools import pairwise
from typing import Literal

from csd_core.errors import ParamsError

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


def divide_classes(classes: Iterable[str], *, claimed: Collection[str], tasks: int) -> tuple[tuple[str, ...], ...]:
    """Deal the classes that no task has claimed to `tasks` new tasks, in their order, the larger ones first.

    Raises:
        ParamsError: if there are fewer free classes than tasks, or no tasks.
    """
    free = [name for name in classes if name not in claimed]
    if not 1 <= tasks <= len(free):
        raise ParamsError(f"{len(free)} unclaimed classes cannot make {tasks} tasks; ask for 1 to {len(free)}")
    size, larger = divmod(len(free), tasks)
    ends = [number * size + min(number, larger) for number in range(tasks + 1)]
    return tuple(tuple(free[start:end]) for start, end in pairwise(ends))
