"""Cut a task's shard: its own images, in train, select, gate and test."""

if __name__ == "__main__":
    from csd_core.stages.entry import run_stage

    run_stage("split")

import numpy as np

from csd_core.data.canonical import load_source
from csd_core.data.grouping.groups import NOBODY, names
from csd_core.data.shards import cut_shard, load_shard, placed_items, write_shard
from csd_core.params.section import BY_HASH
from csd_core.records.stages import SeenShards
from csd_core.system.console import echo
from csd_core.workspace import Workspace


def main(task: str) -> None:
    """Write data/shards/<task> and data/seen/<task>.json.

    Raises:
        ParamsError: if params.yaml has no such task.
        DataError: if its source lacks a class or has nothing new.
    """
    workspace = Workspace()
    params = workspace.params()
    settings = params.task(task)
    seen = SeenShards.load(workspace.seen(settings.previous))
    folders = [workspace.shard(name) for name in seen.tasks]
    earlier = [load_shard(folder).ids for folder in folders]
    source = load_source(workspace.source(settings.source))

    cut = cut_shard(
        source,
        settings,
        params.split,
        name=task,
        earlier=np.concatenate(earlier) if earlier else np.empty(0, np.str_),
        placed=NOBODY if params.split.group is None else placed_items(folders),
    )
    record = write_shard(workspace.shard(task), source, cut, task=task)
    SeenShards(shards=(*seen.shards, record)).save(workspace.seen(task))

    pattern = params.split.group
    if pattern not in (None, BY_HASH):
        found = names(pattern, source.paths[cut.rows].tolist())
        groups = len(set(found) - {None})
        echo(f"{task}: split.group finds {groups:,} groups in the paths; {found.count(None):,} paths have none")
    for label in cut.emptied:
        echo(f'{task}: earlier tasks have every image of class "{label}"; it is left out')
    counts = ", ".join(f"{count:,} {role}" for role, count in record.counts.items())
    skipped = f"; {record.skipped} images are in earlier tasks already" if record.skipped else ""
    echo(f"{task}: {len(record.classes)} classes: {counts}{skipped}")
