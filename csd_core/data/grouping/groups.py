"""Images of a class that share one role (`split.group`), so that what trains a model is not what judges it."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import numpy.typing as npt

from csd_core.data.encoded import Images
from csd_core.data.tables import Strings
from csd_core.params.section import BY_HASH, GroupRule, Split

ROLES: tuple[Split, ...] = get_args(Split)
CHUNK = 1024
"""Images hashed at a time."""

Rows = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Members:
    """Items that may share a role: those of a source, or of earlier tasks.

    Attributes:
        images: (n, H, W, C) uint8 each, together N images, one after the other.
        labels: (N,) class names.
        splits: (N,) roles; empty where an item has none yet.
        paths: (N,) in their sources.
        names: (N,) of their groups; an item that has none yet has its own id.
    """

    images: Sequence[Images]
    labels: Strings
    splits: Strings
    paths: Strings
    names: Strings

    def read(self, rows: Rows) -> Iterator[npt.NDArray[np.uint8]]:
        """Yield images in the order of `rows`, which ascend; a bounded number at a time."""
        starts = np.cumsum([0, *map(len, self.images)])
        for number, images in enumerate(self.images):
            mine = rows[(rows >= starts[number]) & (rows < starts[number + 1])] - starts[number]
            for start in range(0, len(mine), CHUNK):
                yield images[mine[start : start + CHUNK]]


_NOTHING = np.empty(0, np.str_)
NOBODY = Members(images=(), labels=_NOTHING, splits=_NOTHING, paths=_NOTHING, names=_NOTHING)


def group_numbers(rule: GroupRule | None, *chosen: tuple[Members, Rows]) -> Rows:
    """Return (n,) numbers of groups of n items.

    Args:
        rule: `split.group`.
        chosen: The items: positions, ascending, among some members, then among others.
    """
    count = sum(len(rows) for _, rows in chosen)
    if rule is None:
        return np.arange(count)
    if rule == BY_HASH:
        from csd_core.data.grouping.near_duplicates import (  # noqa: PLC0415 - its libraries are the pipeline's
            connected,
            near_pairs,
            perceptual_hashes,
        )

        hashes = [perceptual_hashes(images) for members, rows in chosen for images in members.read(rows)]
        return connected(count, near_pairs(np.concatenate([np.empty(0, np.uint64), *hashes])))
    paths = [path for members, rows in chosen for path in members.paths[rows].tolist()]
    named = [(0, name) if name is not None else (1, str(number)) for number, name in enumerate(names(rule, paths))]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(named))}
    return np.array([numbers[key] for key in named], np.intp)


def names(pattern: GroupRule, paths: Sequence[str]) -> list[str | None]:
    """Return the group that a regular expression finds in each path; None where it finds none."""
    found = map(re.compile(pattern).search, paths)
    return [match[1] if match else None for match in found]


def inherited(groups: Rows, splits: Strings) -> Strings:
    """Return (N,) the role that each item's group has already, the first of several; empty where it has none.

    Args:
        groups: (N,) numbers.
        splits: (N,) roles that items have already; empty for the others.
    """
    found = np.full(len(groups), "", f"<U{max(map(len, ROLES))}")
    for role in reversed(ROLES):
        found[np.isin(groups, groups[splits == role])] = role
    return found


def group_names(groups: Rows, *, known: Strings, new: Strings) -> Strings:
    """Return (n,) the name of each new item's group: the least that earlier items of it have, else the least id in it.

    Args:
        groups: (n + m,) numbers, of the new items and of the m earlier ones.
        known: (m,) names that the earlier ones have.
        new: (n,) ids.
    """
    names, is_new = np.concatenate([new, known]), np.arange(len(groups)) < len(new)
    first = np.lexsort((names, is_new))
    _, at, group = np.unique(groups[first], return_index=True, return_inverse=True)
    named = np.empty(len(groups), names.dtype)
    named[first] = names[first[at]][group]
    return named[: len(new)]
