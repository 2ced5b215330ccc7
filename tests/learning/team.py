"""Stages that one process trains, or several together: `python team.py RANK FOLDER` is one of three.

Everything is drawn from fixed seeds, so that processes that share nothing but this file start alike. Networks are
float64 unless a case says otherwise: what is left of a difference is then one of arithmetic, not of rounding.
"""

import sys
from functools import partial
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from augmentations import DRAWN
from ruamel.yaml import YAML
from torch import distributed

from csd_core.data.pool import ItemPool
from csd_core.data.shards import Shard
from csd_core.learning.batches import LabelledImages
from csd_core.learning.distributed.group import ALONE, ProcessGroup
from csd_core.learning.memory import choose
from csd_core.learning.methods.registry import METHODS
from csd_core.learning.networks.network import new_network
from csd_core.learning.networks.weights import TrainedModel
from csd_core.learning.seeding import keyed_generator
from csd_core.learning.start import StageData
from csd_core.learning.training import _Stage
from csd_core.params.file import load_params
from csd_core.params.training import Training
from csd_core.records.stages import ImageForm, ModelRecord, ShardRecord
from csd_core.stages.train import training_data
from csd_core.system.console import Meter

DIGITS = Path(__file__).parents[2] / "csd_core/project/profiles" / "digits.yaml"
FORM = ImageForm(size=8, channels=1, resize="squash")
CLASSIFIERS = {"lucir": "scaled-cosine", "hoc": "simplex"}
HEADS = {"first-centred": "relu-centred", "first-neck": "bn-neck", "centred": "relu-centred", "bn-neck": "bn-neck"}
BATCH = 19
"""No multiple of two or three; the 40 images below leave a last batch of 2, too small for three processes."""

LAST = 2
"""Number of that batch."""

CASES = {
    **{name: {"method": name} for name in METHODS},
    "first": {},
    "first-centred": {},
    "first-neck": {},
    "centred": {"method": "csd_plus"},
    "bn-neck": {"method": "csd_plus", "teacher_mode": "train"},
    "teacher-in-train": {"method": "csd", "teacher_mode": "train"},
    "bct-teacher-in-train": {"method": "bct", "teacher_mode": "train"},
    "frozen-statistics": {"method": "csd", "batch_norm": "eval"},
    "new-columns": {"method": "finetune", "ce": {"weight": 1.0, "columns": "new", "class_weights": "none"}},
    "memory": {"method": "csd", "memory": {"images": 5, "choose": "herding"}},
    "balanced": {"method": "csd", "memory": {"images": 5, "choose": "random"}, "per_class": 2, "augmentation": DRAWN},
    "float32": {"method": "csd"},
    "bfloat16": {"method": "csd"},
}
TEAMS = {2: tuple(CASES), 3: ("csd", "teacher-in-train", "memory")}
"""How many processes train which cases together."""


def shard(task, classes):
    draw = np.random.default_rng(sum(map(ord, task)))
    labels = np.repeat(classes, 14)
    images = draw.integers(0, 256, (len(labels), 8, 8, 1)) * 0.5 + labels.astype(int)[:, None, None, None] * 20
    splits = np.full(len(labels), "train", "<U6")
    splits[:2] = "select"
    record = ShardRecord(task=task, source="drawn", classes=tuple(classes), counts={}, skipped=0, digest="")
    names = np.array([f"{task}-{number:03}" for number in range(len(labels))])
    return Shard(record=record, images=images.astype(np.uint8), ids=names, labels=labels, splits=splits)


def data(*shards):
    classes = tuple(label for each in shards for label in each.record.classes)
    return StageData(
        task=shards[-1].record.task,
        trained_on=(shards[-1].record.task,),
        form=FORM,
        classes=classes,
        train=LabelledImages.of(ItemPool(shards=shards[-1:]), "train", classes=classes, max_in_memory_mb=1),
        select=LabelledImages.of(ItemPool(shards=shards), "select", classes=classes, max_in_memory_mb=1),
    )


def parameters(case):
    values = YAML(typ="safe").load(DIGITS)["training"]
    values["network"] |= {"depth": 8, "width": 4}
    values["network"] |= {"classifier": CLASSIFIERS.get(case, "cosine"), "head": HEADS.get(case, "relu")}
    values["precision"] = "bfloat16" if case == "bfloat16" else "float32"
    for recipe in ("first", "later"):
        values[recipe] |= {"batch_size": BATCH}
        values[recipe]["augmentation"] |= {"crop_padding": 1, "flip": True}
    values["later"] |= CASES[case]
    return Training.model_validate(values)


def champion_of(training):
    network = new_network(training.network, channels=1, pixels=8, classes=2, generator=keyed_generator("champion"))
    network.train()(torch.randint(256, (32, 8, 8, 1), dtype=torch.uint8, generator=keyed_generator("statistics")))
    if training.network.head == "relu-centred":
        network.head.mean.fill_(0.1)
    record = ModelRecord(
        task="t1",
        network=training.network,
        images=FORM,
        classes=("0", "1"),
        trained_on=("t1",),
        best_epoch=1,
        select_recall=None,
    )
    return TrainedModel(record=record, network=network)


def trained(case, ranks=ALONE):
    """One epoch: losses and gradients of its first and last batch, then figures, weights and statistics."""
    training, old, new = parameters(case), shard("t1", ["0", "1"]), shard("t2", ["2", "3", "4"])
    champion = None if case.startswith("first") else champion_of(training)
    learned = data(old, new)
    if "memory" in CASES[case]:
        cpu, memory = torch.device("cpu"), training.later.memory
        remember = partial(choose, memory=memory, network=champion.network, device=cpu, seed=1, ranks=ranks)
        shards, known = {"t1": old, "t2": new}, champion.record.classes
        learned = training_data(
            "t2", shards=shards, pending=(), known=known, params=load_params(DIGITS), remember=remember
        )
    stage = _Stage(learned, training, champion=champion, device=torch.device("cpu"), start_weights=None, ranks=ranks)
    if case not in ("float32", "bfloat16"):
        stage._student.double()
        if stage._teacher:
            stage._teacher._network.double()
    found, step = {}, stage._step

    def recorded(images, targets, *, epoch, batch):
        losses = step(images, targets, epoch=epoch, batch=batch)
        if batch in (0, LAST):
            found[f"{batch}/losses"] = losses
            found.update(
                {
                    f"{batch}/gradient/{name}": parameter.grad.clone(memory_format=torch.contiguous_format)
                    for name, parameter in stage._student.named_parameters()
                    if parameter.grad is not None
                }
            )
        return losses

    stage._step = recorded
    scalars = stage.run_epoch(0, Meter("", 40, "images", None), lambda: None)
    found["scalars"] = torch.tensor(list(scalars.values()), dtype=torch.float64)
    model = stage.outcome()
    found |= {f"weights/{name}": value.clone().contiguous() for name, value in model.network.state_dict().items()}
    return found


def main(rank, folder):
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)
    for count, cases in TEAMS.items():
        if rank < count:
            distributed.init_process_group(
                "gloo", init_method=f"file://{folder}/meeting-{count}", rank=rank, world_size=count
            )
            for case in cases:
                found = trained(case, ProcessGroup(rank=rank, count=count, local_rank=rank, local_count=count))
                safetensors.torch.save_file(found, f"{folder}/{case}-{rank}-of-{count}.safetensors")
            distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
