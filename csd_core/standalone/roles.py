"""Which images fit adapters, choose and judge: the pipeline's own cut, class by class."""

from dataclasses import dataclass

import numpy as np

from csd_core.data.canonical import CanonicalSet
from csd_core.data.shards import cut_shard
from csd_core.data.tables import Strings
from csd_core.params.model import SplitShares, Task
from csd_core.retrieval.gallery import Gallery
from csd_core.retrieval.metrics import Bools
from csd_core.system.errors import DataError, ParamsError

SELECT, GATE = 0.2, 0.5
"""Shares of a class's images; the rest fits adapters. The gate gets most: its queries bound what a verdict can tell."""

FEWEST = 4
"""Images of a class from which two are the gate's, so that a query of it can hit."""

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


def assign_roles(items: CanonicalSet, *, gallery: Gallery | None, new_classes: tuple[str, ...], seed: int) -> Roles:
    """Give every item a role; one that is in the gallery keeps its own.

    Args:
        items: The items.
        gallery: Where the old ones are; None makes all old but for the new classes.
        new_classes: What the gallery lacks; empty finds them by the gallery.
        seed: Of the cut.

    Raises:
        DataError: if no item is in the gallery, or its class is another there.
        ParamsError: if a new class is not in the folder, is in the gallery, or all are new.
    """
    name = items.record.name
    absent = [label for label in new_classes if label not in items.record.classes]
    if absent:
        raise ParamsError(
            f"--new-classes {absent[0]}: {name} has no such class; it has {', '.join(items.record.classes)}"
        )
    new = np.isin(items.labels, new_classes)
    if gallery is None:
        if new.all():
            raise ParamsError(
                "--new-classes: names every class, so none would be in the old gallery; leave the old ones out"
            )
        splits = _dealt(items, np.empty(0, np.str_), seed)
        tasks = np.where(new, NEW, FIRST)
        return Roles(splits=splits, tasks=tasks, old=~new, taught=new if new.any() else ~new)
    old = np.isin(items.ids, gallery.ids)
    if not old.any():
        raise DataError(
            f"{name}: has the image of none of the gallery's {len(gallery):,} rows; give the folder that it was made "
            "from (an item is known by its pixels)"
        )
    by_id = np.argsort(gallery.ids, kind="stable")
    row = by_id[np.searchsorted(gallery.ids, items.ids[old], sorter=by_id)]  # (N_old,)
    _refuse_other_labels(items, gallery, old, row)
    known = np.unique(gallery.labels)
    contradicted = [label for label in new_classes if label in known]
    if contradicted:
        raise ParamsError(f"--new-classes {contradicted[0]}: the gallery has rows of it; leave it out")
    splits = _dealt(items, gallery.ids, seed).astype(object)
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
        DataError: if no class of the gallery has two images among the gate's.
    """
    judging = items.labels[roles.old & (roles.splits == "gate")]
    if not (np.unique(judging, return_counts=True)[1] > 1).any():
        raise DataError(
            f"{items.record.name}: {len(judging)} old images are the gate's, and no two of one class; give at least "
            f"{FEWEST} images of each class"
        )


def _dealt(items: CanonicalSet, earlier: Strings, seed: int) -> Strings:
    """Return (N,) roles of the items that are not among the earlier ones; empty for those."""
    splits = np.full(len(items.ids), "", object)
    if not np.isin(items.ids, earlier).all():
        whole = Task(previous="init", recipe="first", source="images", classes=None)
        shares = SplitShares(seed=seed, select=SELECT, gate=GATE, test=0.0, group=None)
        cut = cut_shard(items, whole, shares, name=items.record.name, earlier=earlier)
        splits[cut.rows] = cut.splits
    return splits.astype(np.str_)


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
