"""A task's own images, split by role: the shard. It depends on its task, its source and what earlier tasks hold.

    images.npy     (N, H, W, C) uint8, read memory-mapped; or images.arrow, each encoded, as its source has it
    items.parquet  id, label, split, path, source, and with split.group the group: row by row the same items
    shard.json     ShardRecord

Inside a class, items are ranked by a hash of seed and id, and roles are cut from that ranking. So the outcome depends
on the class's own items alone, neither on their order nor on other classes, and a later task changes no earlier shard.
With `split.group` whole groups are ranked and cut, by the least id of each, which names them; a group that an earlier
task or the source's test set has a part of takes the role of that part, and the name that it has there.
"""

import difflib
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import numpy.typing as npt

from csd_core.data.canonical import CanonicalSet
from csd_core.data.encoded import Images, file_of, load_images, store_of, write_images
from csd_core.data.grouping.groups import NOBODY, Members, group_names, group_numbers, inherited
from csd_core.data.grouping.roles import by_hash, cut_roles
from csd_core.data.tables import Strings, read_table, write_table
from csd_core.params.model import SplitShares, Task
from csd_core.params.section import Split
from csd_core.records.stages import ShardRecord
from csd_core.system.atomic import atomic_folder
from csd_core.system.errors import ArtifactError, DataError

ITEMS, RECORD = "items.parquet", "shard.json"
CHUNK_BYTES = 16 << 20
SPLITS: tuple[Split, ...] = get_args(Split)

Rows = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shard:
    """A shard as it is read.

    Attributes:
        record: What it is.
        images: (N, H, W, C) uint8, read as they are asked for.
        ids: (N,) content hashes, unique over all shards.
        labels: (N,) class names.
        splits: (N,) train, select, gate or test.
        groups: (N,) names of groups of one class; None where each item is on its own.
    """

    record: ShardRecord
    images: Images
    ids: Strings
    labels: Strings
    splits: Strings
    groups: Strings | None = None

    def rows(self, *splits: Split) -> Rows:
        """Return positions of the items of some splits, ascending."""
        return np.flatnonzero(np.isin(self.splits, splits))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ShardItems:
    """Which items of a source make up a shard.

    Attributes:
        classes: In the order in which the classifier learns them.
        rows: (N,) positions in the source, by class and rank.
        splits: (N,) their roles.
        skipped: Items of these classes that earlier tasks have.
        emptied: Classes all of whose items earlier tasks have; they are not among `classes`.
        groups: (N,) names of their groups; None where each is on its own.
    """

    classes: tuple[str, ...]
    rows: Rows
    splits: Strings
    skipped: int
    emptied: tuple[str, ...]
    groups: Strings | None = None


def cut_shard(
    source: CanonicalSet, task: Task, shares: SplitShares, *, name: str, earlier: Strings, placed: Members = NOBODY
) -> ShardItems:
    """Choose a task's items and give each a role.

    Args:
        source: The task's source.
        task: Its parameters.
        shares: Of the roles, their seed and which images share one.
        name: Of the task, for messages.
        earlier: (M,) ids that earlier tasks have; a duplicate keeps its first role there.
        placed: The items of earlier tasks whose groups new items may join; none where each is on its own.

    Raises:
        DataError: if the source lacks a class, a class has nothing to train on, or nothing is left.
    """
    wanted = tuple(task.classes) if task.classes is not None else source.record.classes
    _refuse_unknown(wanted, source, name)
    taken = np.isin(source.ids, earlier)
    test = source.source_splits == "test"
    splits_of = np.where(test, "test", "")
    members = Members(
        images=(source.images,), labels=source.labels, splits=splits_of, paths=source.paths, names=source.ids
    )
    rows_of, kin_of = _rows_by_class(source.labels), _rows_by_class(placed.labels)
    kept: list[Rows] = []
    splits: list[Strings] = []
    names: list[Strings] = []
    emptied: list[str] = []
    for label in wanted:
        mine = rows_of[label]
        if test[mine].all():
            raise DataError(
                f'tasks.{name}: class "{label}" of source {task.source} has test images only; add training images '
                "or leave the class out"
            )
        left = mine[~taken[mine]]
        if not len(left):
            emptied.append(label)
            continue
        kin = kin_of.get(label, np.empty(0, np.intp))
        groups = group_numbers(shares.group, (members, left), (placed, kin))
        fixed = inherited(groups, np.concatenate([members.splits[left], placed.splits[kin]]))[: len(left)]
        fixed[test[left]] = "test"
        free = fixed == ""
        if not free.any() and not len(kin) and not taken[mine].any():
            raise DataError(
                f'tasks.{name}: every image of class "{label}" of source {task.source} is in a group with one of its '
                "test images, so none is left to train on; change split.group or leave the class out"
            )
        # the source's own test set serves the class: nothing more is taken for test
        here = shares.model_copy(update={"test": 0.0}) if test[mine].any() else shares
        ranked, roles = cut_roles(left[free], groups[: len(left)][free], source.ids[left[free]], here)
        joined = by_hash(left[~free], source.ids, shares.seed)
        kept += [ranked, joined]
        splits += [roles, fixed[np.searchsorted(left, joined)]]
        named = group_names(groups, known=placed.names[kin], new=source.ids[left])
        names += [named[np.searchsorted(left, rows)] for rows in (ranked, joined)]
    if len(emptied) == len(wanted):
        raise DataError(
            f"tasks.{name}: earlier tasks have every image that source {task.source} has for it; remove the task or "
            "add images"
        )
    skipped = sum(int(taken[rows_of[label]].sum()) for label in wanted)
    return ShardItems(
        classes=tuple(label for label in wanted if label not in emptied),
        rows=np.concatenate(kept),
        splits=np.concatenate(splits),
        skipped=skipped,
        emptied=tuple(emptied),
        groups=None if shares.group is None else np.concatenate(names),
    )


def write_shard(folder: Path, source: CanonicalSet, cut: ShardItems, *, task: str) -> ShardRecord:
    """Write a shard, a chunk of images in memory at a time.

    Args:
        folder: To write, whole or not at all.
        source: Whose items.
        cut: Which of them.
        task: Its name.
    """
    ids, labels = source.ids[cut.rows], source.labels[cut.rows]
    shape = source.images.shape[1:]
    step = max(1, CHUNK_BYTES // int(np.prod(shape)))
    digest = hashlib.sha256()
    described = [cut.classes, ids.tolist(), cut.splits.tolist(), labels.tolist(), shape]
    described += [] if cut.groups is None else [cut.groups.tolist()]
    digest.update(json.dumps(described, ensure_ascii=False).encode())
    with atomic_folder(folder) as partial:
        with write_images(partial, shape, store_of(source.images)) as writer:
            for start in range(0, len(cut.rows), step):
                part = slice(start, start + step)
                for written in writer.copy(source.images, cut.rows[part], ids[part].tolist()):
                    digest.update(written)
        columns: dict[str, Sequence[str] | Strings] = {
            "id": ids,
            "label": labels,
            "split": cut.splits,
            "path": source.paths[cut.rows],
            "source": [source.record.name] * len(ids),
        }
        if cut.groups is not None:
            columns["group"] = cut.groups
        write_table(partial / ITEMS, columns)
        record = ShardRecord(
            task=task,
            source=source.record.name,
            classes=cut.classes,
            counts={role: int((cut.splits == role).sum()) for role in SPLITS},
            skipped=cut.skipped,
            digest=digest.hexdigest(),
        )
        record.save(partial / RECORD)
    return record


def load_shard(folder: Path) -> Shard:
    """Open a shard.

    Raises:
        ArtifactError: if a file is missing or damaged, or they do not belong together.
    """
    record = ShardRecord.load(folder / RECORD)
    images = load_images(folder)
    columns = read_table(folder / ITEMS, ("id", "label", "split"), if_there=("group",))
    if not sum(record.counts.values()) == len(images) == len(columns["id"]):
        raise ArtifactError(
            f"{folder}: the record counts {sum(record.counts.values())} images, {file_of(images)} has {len(images)}, "
            f"{ITEMS} {len(columns['id'])}; split it again"
        )
    return Shard(
        record=record,
        images=images,
        ids=columns["id"],
        labels=columns["label"],
        splits=columns["split"],
        groups=columns.get("group"),
    )


def placed_items(folders: Sequence[Path]) -> Members:
    """Return the items of shards, with their roles, that items of a new task may be in a group with.

    Raises:
        ArtifactError: if a shard is missing or damaged.
    """
    shards = [load_shard(folder) for folder in folders]
    if not shards:
        return NOBODY
    return Members(
        images=[shard.images for shard in shards],
        labels=np.concatenate([shard.labels for shard in shards]),
        splits=np.concatenate([shard.splits for shard in shards]),
        paths=np.concatenate([read_table(folder / ITEMS, ("path",))["path"] for folder in folders]),
        names=np.concatenate([shard.ids if shard.groups is None else shard.groups for shard in shards]),
    )


def _refuse_unknown(wanted: Sequence[str], source: CanonicalSet, name: str) -> None:
    known = source.record.classes
    for label in wanted:
        if label not in known:
            near = difflib.get_close_matches(label, known, n=3) or known[:5]
            raise DataError(
                f'tasks.{name}.classes: source {source.record.name} has no class "{label}"; it has {len(known)}, '
                f"such as {', '.join(near)}"
            )


def _rows_by_class(labels: Strings) -> dict[str, Rows]:
    """Class name -> positions of its items."""
    names, starts = np.unique(np.sort(labels), return_index=True)
    by_class = np.split(np.argsort(labels, kind="stable"), starts)[1:]
    return dict(zip(names.tolist(), by_class, strict=True))
