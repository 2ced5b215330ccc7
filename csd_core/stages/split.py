"""Cut a task's shard: its own images, in train, select, gate and test."""

if __name__ == "__main__":
    from csd_core.stages.entry import run_stage

    run_stage("split")

import numpy as np

from csd_core.data.canonical import load_source
from csd_core.data.shards import cut_shard, load_shard, write_shard
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
    earlier = [load_shard(workspace.shard(name)).ids for name in seen.tasks]
    source = load_source(workspace.source(settings.source))

    cut = cut_shard(
        source,
        settings,
        params.split,
        name=task,
        earlier=np.concatenate(earlier) if earlier else np.empty(0, np.str_),
    )
    record = write_shard(workspace.shard(task), source, cut, task=task)
    SeenShards(shards=(*seen.shards, record)).save(workspace.seen(task))

    for label in cut.emptied:
        echo(f'{task}: earlier tasks have every image of class "{label}"; it is left out')
    counts = ", ".join(f"{count:,} {role}" for role, count in record.counts.items())
    skipped = f"; {record.skipped} images are in earlier tasks already" if record.skipped else ""
    echo(f"{task}: {len(record.classes)} classes: {counts}{skipped}")
