"""Train a task's candidate on its own and all pending images, with the champion before it as teacher."""

if __name__ == "__main__":
    from csd_core.stages.entry import run_stage

    run_stage("train")

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from csd_core.data.pool import ItemPool
from csd_core.data.shards import Shard, load_shard
from csd_core.learning.batches import LabelledImages
from csd_core.learning.checkpoint import discard
from csd_core.learning.curves import save_curves
from csd_core.learning.distributed.group import ProcessGroup
from csd_core.learning.distributed.launch import joined, launch, launched
from csd_core.learning.memory import Positions, choose
from csd_core.learning.methods.protocol import Method
from csd_core.learning.methods.registry import METHODS
from csd_core.learning.networks.device import prepare_device
from csd_core.learning.networks.weights import RECORD, WEIGHTS, TrainedModel, load_model, save_model
from csd_core.learning.start import StageData
from csd_core.learning.training import LIVE, train
from csd_core.params.model import Params
from csd_core.params.training import Training as TrainingParams
from csd_core.records.stages import ImageForm, Pending, SeenShards
from csd_core.report.advice.training import Training, warnings_of
from csd_core.stages.computing import use_threads
from csd_core.system.console import echo
from csd_core.workspace import Workspace

MODULE = "csd_core.stages.train"

Remember = Callable[[LabelledImages], Positions]

_IMPORTED = time.monotonic()


def main(task: str) -> None:
    """Write the candidate's model and the curves of its training, in as many processes as `compute` asks for.

    Raises:
        ParamsError: if params.yaml has no such task.
        TrainingError: if a loss is not finite or the device is missing.
    """
    if not launched():
        params = Workspace().params()
        params.task(task)  # what is wrong with the parameters is said before processes start
        if params.compute.processes > 1:
            launch(params.compute.processes, MODULE, task)
            return
    with joined() as ranks:
        _train(task, ranks)


def _train(task: str, ranks: ProcessGroup) -> None:
    workspace = Workspace()
    params = workspace.params()
    training = params.training_of(task)
    use_threads(params.compute)
    device = prepare_device(params.compute, ranks)
    previous = params.task(task).previous
    seen = SeenShards.load(workspace.seen(task))
    champion_folder = workspace.champion_model(previous)
    champion = load_model(champion_folder)
    method = METHODS[training.later.method] if champion else None
    data = training_data(
        task,
        shards={name: load_shard(workspace.shard(name)) for name in seen.tasks},
        pending=Pending.load(workspace.pending(previous)).tasks,
        known=champion.record.classes if champion else (),
        params=params,
        learns_from=method.learns_from if method else "new",
        remember=_memory_of(training, champion, method, device, ranks),
        processes_here=ranks.local_count,
    )
    weights = training.network.weights_file
    fresh = method is None or method.starts_from == "fresh"
    start_weights = workspace.path(weights) if weights and fresh else None
    work = workspace.work(
        f"train-{task}",
        fingerprint(
            data,
            seen=seen,
            training=training.model_dump(exclude={"recipes"} if champion else {"later", "recipes"}),
            compute=params.compute.model_dump(),
            code=code_of(workspace, task),
            inputs=[
                champion_folder / RECORD,
                champion_folder / WEIGHTS,
                *([start_weights] if start_weights else []),
            ],
        ),
    )
    model = train(
        data,
        training,
        champion=champion,
        device=device,
        work=work,
        start_weights=start_weights,
        on_first_batch=lambda: echo(f"start-up: {_seconds_since_start():.1f} s from process start to first batch"),
        ranks=ranks,
    )
    if not ranks.first:
        return
    save_model(model, workspace.candidate_model(task))
    save_curves(work / LIVE, workspace.curves(task))
    discard(work)
    recall = model.record.select_recall
    kept = data.train.remembered
    memory = f" and {kept:,} of older tasks" if kept else ""
    found = "no select query can hit" if recall is None else f"Recall@1 on select {recall:.2%}"
    echo(
        f"{task}: {len(data.train) - kept:,} images of {', '.join(data.trained_on)}{memory}, {len(data.classes)} "
        f"classes; best epoch {model.record.best_epoch}, {found}"
    )
    for warning in warnings_of(Training.of(workspace, params, task)):
        echo(f"{task}: {warning}")


def _memory_of(
    training: TrainingParams,
    champion: TrainedModel | None,
    method: type[Method] | None,
    device: torch.device,
    ranks: ProcessGroup,
) -> Remember | None:
    """Return what chooses the memory; None where there is none, as for a backbone that does not learn."""
    memory = training.later.memory
    if champion is None or method is None or method.backbone == "frozen" or not memory.images:
        return None
    return partial(choose, memory=memory, network=champion.network, device=device, seed=training.seed, ranks=ranks)


def training_data(
    task: str,
    *,
    shards: Mapping[str, Shard],
    pending: tuple[str, ...],
    known: tuple[str, ...],
    params: Params,
    learns_from: Literal["new", "all"] = "new",
    remember: Remember | None = None,
    processes_here: int = 1,
) -> StageData:
    """Return what the stage learns from.

    Args:
        task: Whose stage it is.
        shards: Of every task seen so far, oldest first.
        pending: Earlier tasks that no champion has learned.
        known: The champion's classes, in column order; new ones follow in order of arrival.
        params: All of them.
        learns_from: new: this task and the pending ones; all: every task seen so far.
        remember: Chooses images of the other tasks, which the champion has learned; None: there is no memory.
        processes_here: How many on this machine hold images in memory.
    """
    trained_on = (*pending, task) if learns_from == "new" else tuple(shards)
    learned = [shards[name] for name in trained_on]
    classes = tuple(dict.fromkeys([*known, *(label for shard in learned for label in shard.record.classes)]))
    seen = tuple(dict.fromkeys(label for shard in shards.values() for label in shard.record.classes))
    limit = params.runtime.max_in_memory_mb // processes_here
    pool, kept = ItemPool(shards=learned), np.empty(0, np.intp)
    rows = pool.rows("train")
    older = [shard for name, shard in shards.items() if name not in trained_on]
    if remember and older:
        pool = ItemPool(shards=[*learned, *older])
        candidates = LabelledImages.at(pool, pool.rows("train")[len(rows) :], classes=known, max_in_memory_mb=0)
        kept = candidates.rows[remember(candidates)]
    return StageData(
        task=task,
        trained_on=trained_on,
        form=ImageForm.of(params.images),
        classes=classes,
        train=LabelledImages.at(
            pool, np.concatenate([rows, kept]), classes=classes, max_in_memory_mb=limit, remembered=len(kept)
        ),
        select=LabelledImages.of(
            ItemPool(shards=list(shards.values())), "select", classes=seen, max_in_memory_mb=limit
        ),
    )


def fingerprint(
    data: StageData,
    *,
    seen: SeenShards,
    training: dict[str, Any],
    compute: dict[str, Any],
    code: str | None,
    inputs: list[Path],
) -> str:
    """sha256 over all that the weights depend on, so that a checkpoint of other inputs is never resumed.

    Args:
        data: Of the stage.
        seen: Digests of all images.
        training: Parameters of the stage.
        compute: What it computes with.
        code: Digest of the stage's code.
        inputs: The champion's files and the start weights.
    """
    facts = {
        "task": data.task,
        "trained_on": data.trained_on,
        "classes": data.classes,
        "images": data.form.model_dump(),
        "training": training,
        "shards": {shard.task: shard.digest for shard in seen.shards},
        "files": [_digest(path) for path in inputs],
        "torch": torch.__version__,
        "compute": compute,
        "code": code,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def code_of(workspace: Workspace, task: str) -> str | None:
    """Return the digest of the stage's code; None where the stage `code` has not run, as in a stage run by hand."""
    if not workspace.code.is_file():
        return None
    known: str | None = json.loads(workspace.code.read_text(encoding="utf-8"))["train"].get(task)
    return known


def _digest(path: Path) -> str | None:
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _seconds_since_start() -> float:
    """Seconds since the process started, where /proc tells; else since this module was imported."""
    try:
        started = int(Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
        uptime = float(Path("/proc/uptime").read_text(encoding="utf-8").split()[0])
        return uptime - started / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return time.monotonic() - _IMPORTED
