"""Which images fit adapters, choose and judge: the pipeline's own cut, class by class."""

import hashlib
from dataclasses import dataclass, replace

import numpy as np

from csd_core.data.canonical import CanonicalSet
from csd_core.data.shards import cut_shard
from csd_core.data.tables import Strings
from csd_core.params.model import SplitShares, Task
from csd_core.retrieval.gallery import Gallery
from csd_core.retrieval.metrics import Bools
from csd_core.standalone.collection import Collection
from csd_core.system.errors import DataError, ParamsError

SELECT, GATE = 0.2, 0.5
"""Shares of a class's images; the rest fits adapters. The gate gets most: its queries bound what a verdict can tell."""

FEWEST = 4
"""Images of a class from which two are the gate's, so that a query of it can hit."""

GROUP = r"\A(.+)\n"
"""Where the group lies in what stands for a path; an item whose group is empty is on its own."""

FIRST, NEW = "old", "new"
"""Tasks of what is in the gallery where there was none, and of what it lacks."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Roles:
    """What each of N items is for.

    Attributes:
        splits: (N,) train (fits adapters), select (chooses), gate (judges), or what the gallery calls it.
        tasks: (N,) what it came with.
        old: (N,) whether it is, or would be, in the gallery.
        taught: (N,) whether its class is what the new model is for: adapters are fitted on these.
    """

    splits: Strings
    tasks: Strings
    old: Bools
    taught: Bools


def assign_roles(
    collection: Collection,
    *,
    gallery: Gallery | None,
    new_classes: tuple[str, ...],
    seed: int,
    stored: Bools | None = None,
) -> Roles:
    """Give every item a role; one that is in the gallery keeps its own.

    Args:
        collection: The items.
        gallery: Where the old ones are; None makes all old that are `stored`, but for the new classes.
        new_classes: What the gallery lacks; empty finds them by the gallery.
        seed: Of the cut.
        stored: (N,) items whose old vectors are given; None for all.

    Raises:
        DataError: if no item is in the gallery, or its class is another there.
        ParamsError: if a new class is not in the folder, is in the gallery, or all are new.
    """
    items = collection.items
    name = items.record.name
    absent = [label for label in new_classes if label not in items.record.classes]
    if absent:
        raise ParamsError(
            f"--new-classes {absent[0]}: {name} has no such class; it has {', '.join(items.record.classes)}"
        )
    new = np.isin(items.labels, new_classes)
    if gallery is None:
        new |= np.zeros_like(new) if stored is None else ~stored
        if new.all():
            raise ParamsError(
                "--new-classes: names every class, so none would be in the old gallery; leave the old ones out"
            )
        splits = _dealt(collection, np.empty(0, np.str_), seed)
        tasks = np.where(new, NEW, FIRST) if collection.tasks is None else collection.tasks
        return Roles(splits=splits, tasks=tasks, old=~new, taught=new if new.any() else ~new)
    old = np.isin(items.ids, gallery.ids)
    if not old.any():
        raise DataError(
            f"{name}: has the image of none of the gallery's {len(gallery):,} rows; give what it was made "
            "from: the folder (an item is known by its pixels), or the table of labels (by its id)"
        )
    by_id = np.argsort(gallery.ids, kind="stable")
    row = by_id[np.searchsorted(gallery.ids, items.ids[old], sorter=by_id)]  # (N_old,)
    _refuse_other_labels(items, gallery, old, row)
    known = np.unique(gallery.labels)
    contradicted = [label for label in new_classes if label in known]
    if contradicted:
        raise ParamsError(f"--new-classes {contradicted[0]}: the gallery has rows of it; leave it out")
    splits = _dealt(collection, gallery.ids, seed).astype(object)
    splits[old] = gallery.splits[row]
    tasks = np.full(len(old), _free_name(gallery), object)
    tasks[old] = gallery.tasks[row]
    unknown = new if new_classes else ~np.isin(items.labels, known)
    return Roles(
        splits=splits.astype(np.str_),
        tasks=tasks.astype(np.str_),
        old=old,
        taught=unknown if unknown.any() else np.ones_like(unknown),
    )


def refuse_too_few(items: CanonicalSet, roles: Roles) -> None:
    """A gate without a query that can hit would judge nothing.

    Raises:
        DataError: if no item of the gate has another of its class in the gallery.
    """
    old = items.labels[roles.old]
    labels, counts = np.unique(old, return_counts=True)
    judging = old[roles.splits[roles.old] == "gate"]
    if not np.isin(judging, labels[counts > 1]).any():
        raise DataError(
            f"{items.record.name}: {len(judging)} old items are the gate's, and none has another of its class; give at "
            f"least {FEWEST} items of each class"
        )


def _dealt(collection: Collection, earlier: Strings, seed: int) -> Strings:
    """Return (N,) roles of the items that are not among the earlier ones; empty for those."""
    items, groups = collection.items, collection.groups
    if collection.asks is not None:
        return _dealt_matches(items, collection.asks, seed)
    if groups is not None:
        named = np.array([f"{group}\n{row}" for row, group in enumerate(groups.tolist())])
        items = replace(items, paths=named)
    splits = np.full(len(items.ids), "", object)
    if not np.isin(items.ids, earlier).all():
        whole = Task(previous="init", recipe="first", source="images", classes=None)
        shares = SplitShares(seed=seed, select=SELECT, gate=GATE, test=0.0, group=None if groups is None else GROUP)
        cut = cut_shard(items, whole, shares, name=items.record.name, earlier=earlier)
        splits[cut.rows] = cut.splits
    return splits.astype(np.str_)


def _dealt_matches(items: CanonicalSet, asks: Bools, seed: int) -> Strings:
    """Return (N,) roles by pairs: all items of a match in one, but that what is only found asks nothing (test).

    Items in no pair fit adapters.
    """
    _, number, sizes = np.unique(items.labels, return_inverse=True, return_counts=True)
    matched = np.flatnonzero(sizes > 1)
    least = np.full(len(sizes), "", object)
    for row in np.argsort(items.ids, kind="stable")[::-1]:
        least[number[row]] = items.ids[row]
    ranks = {each: hashlib.sha256(f"{seed}/{least[each]}".encode()).digest() for each in matched.tolist()}
    ranked = sorted(ranks, key=ranks.__getitem__)
    role = np.full(len(sizes), "train", object)
    start, middle = round(len(ranked) * (1 - GATE - SELECT)), round(len(ranked) * (1 - GATE))
    role[ranked[start:middle]], role[ranked[middle:]] = "select", "gate"
    found = role[number]
    found[~asks & (found != "train")] = "test"
    return found.astype(np.str_)


def _refuse_other_labels(items: CanonicalSet, gallery: Gallery, old: Bools, row: np.ndarray) -> None:
    differ = np.flatnonzero(items.labels[old] != gallery.labels[row])
    if len(differ):
        first = differ[0]
        raise DataError(
            f"{items.record.name}: {len(differ)} images are in another class than in the gallery, such as "
            f'{items.paths[old][first]} (there "{gallery.labels[row][first]}"); move them, or index the folder again'
        )


def _free_name(gallery: Gallery) -> str:
    taken = set(gallery.tasks.tolist())
    number = 1
    while (name := NEW if number == 1 else f"{NEW}-{number}") in taken:
        number += 1
    return name
