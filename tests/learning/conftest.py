"""Small sets of real digits, as shards in memory, and the recipes that learn them in seconds."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from augmentations import PLAIN
from ruamel.yaml import YAML
from sklearn.datasets import load_digits

from csd_core.data.pool import ItemPool
from csd_core.data.shards import Shard
from csd_core.learning.batches import LabelledImages
from csd_core.learning.start import StageData
from csd_core.params.training import LaterStage, Network, Training
from csd_core.records.stages import ImageForm, ShardRecord

DIGITS = Path(__file__).parents[2] / "csd_core/project/profiles" / "digits.yaml"
FORM = ImageForm(size=8, channels=1, resize="squash")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Networks this small gain nothing from a second thread, and wait for it on a busy machine."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def digits_shard() -> Callable[..., Shard]:
    """A function that makes a shard of some digits: 40 images of each class, every fourth for select."""
    bunch = load_digits()
    pixels = np.round(bunch.images * (255 / 16)).astype(np.uint8)[..., None]

    def make(task: str, classes: Sequence[int], *, per_class: int = 40) -> Shard:
        rows = np.concatenate([np.flatnonzero(bunch.target == label)[:per_class] for label in classes])
        splits = np.where(np.arange(len(rows)) % 4 == 3, "select", "train")
        record = ShardRecord(
            task=task,
            source="digits",
            classes=tuple(map(str, classes)),
            counts={},
            skipped=0,
            digest="",
        )
        return Shard(
            record=record,
            images=pixels[rows],
            ids=np.array([f"{row:04}" for row in rows]),
            labels=bunch.target[rows].astype(str),
            splits=splits,
        )

    return make


@pytest.fixture(scope="session")
def stage_data() -> Callable[..., StageData]:
    """A function that makes the data of a stage over shards, of which the last `new` are trained on."""

    def make(shards: Sequence[Shard], *, new: int = 1, classes: Sequence[str] | None = None) -> StageData:
        names = tuple(classes or dict.fromkeys(label for shard in shards for label in shard.record.classes))
        learned = list(shards)[-new:]
        return StageData(
            task=learned[-1].record.task,
            trained_on=tuple(shard.record.task for shard in learned),
            form=FORM,
            classes=names,
            train=LabelledImages.of(ItemPool(shards=learned), "train", classes=names, max_in_memory_mb=100),
            select=LabelledImages.of(ItemPool(shards=shards), "select", classes=names, max_in_memory_mb=100),
        )

    return make


@pytest.fixture(scope="session")
def first_data(digits_shard: Callable[..., Shard], stage_data: Callable[..., StageData]) -> StageData:
    """A first stage of three classes."""
    return stage_data([digits_shard("t1", [0, 1, 2])])


@pytest.fixture(scope="session")
def later_data(digits_shard: Callable[..., Shard], stage_data: Callable[..., StageData]) -> StageData:
    """Two more classes."""
    return stage_data([digits_shard("t1", [0, 1, 2]), digits_shard("t2", [3, 4])])


@pytest.fixture(scope="session")
def memory_data(later_data: StageData) -> StageData:
    """The same with a memory of two images of each old class."""
    pool = ItemPool(shards=later_data.select.pool.shards[::-1])
    rows, new = pool.rows("train"), len(later_data.train)
    kept = np.concatenate([rows[new:][pool.labels[rows[new:]] == label][:2] for label in ("0", "1", "2")])
    train = LabelledImages.at(
        pool,
        np.concatenate([rows[:new], kept]),
        classes=later_data.classes,
        max_in_memory_mb=100,
        remembered=len(kept),
    )
    return replace(later_data, train=train)


@pytest.fixture(scope="session")
def network() -> Network:
    """The smallest one."""
    return Network(
        architecture="resnet-cifar",
        depth=8,
        width=8,
        head="relu",
        dimension=None,
        classifier="cosine",
        weights=None,
        mean=[0.3],
        std=[0.38],
    )


@pytest.fixture(scope="session")
def training(network: Network) -> Training:
    """Both recipes, two epochs each."""
    later = LaterStage.model_validate(
        {
            "epochs": 2,
            "batch_size": 32,
            "per_class": None,
            "optimizer": {"name": "adam", "lr": 0.003, "weight_decay": 0.0005, "momentum": 0.9},
            "frozen": 0.0,
            "layer_decay": 1.0,
            "gradient_checkpointing": False,
            "schedule": {"name": "cosine", "warmup": 0.1},
            "augmentation": PLAIN | {"crop_padding": 1},
            "ce": {"weight": 1.0, "columns": "all", "class_weights": "none"},
            "triplet": {"weight": 1.0, "margin": 1.0},
            "memory": {"images": 0, "choose": "random"},
            "method": "csd",
            "methods": YAML(typ="safe").load(DIGITS)["training"]["later"]["methods"],
            "teacher_mode": "eval",
            "batch_norm": "train",
        }
    )
    first = later.model_dump(exclude={"memory", "method", "methods", "teacher_mode", "batch_norm"})
    return Training.model_validate(
        {"seed": 1, "precision": "float32", "network": network, "first": first, "later": later}
    )


@pytest.fixture(scope="session")
def cpu() -> torch.device:
    """Where tests compute."""
    return torch.device("cpu")
