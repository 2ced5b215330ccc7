"""Images a second of a later stage under every method, relative to finetuning, through the training engine, in one run.

python benchmarks/methods.py [--depth 32] [--size 32] [--batches 6] [--rounds 3] [--threads 0]

An epoch of random images; the methods take turns in each round, and the fastest of each counts.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from ruamel.yaml import YAML

from csd_core.data.pool import ItemPool
from csd_core.data.shards import Shard
from csd_core.learning.batches import LabelledImages
from csd_core.learning.methods.registry import METHODS
from csd_core.learning.networks.device import prepare_device
from csd_core.learning.networks.network import new_network
from csd_core.learning.networks.weights import TrainedModel
from csd_core.learning.seeding import keyed_generator
from csd_core.learning.start import StageData
from csd_core.learning.training import train
from csd_core.params.model import Compute
from csd_core.params.training import Training
from csd_core.records.stages import ImageForm, ModelRecord, ShardRecord

DIGITS = Path(__file__).parents[1] / "csd_core/project/profiles" / "digits.yaml"
OLD, NEW = 32, 33
"""Classes; as many as a simplex in 64 dimensions has corners."""
CLASSIFIERS = {"lucir": "scaled-cosine", "hoc": "simplex"}
REFERENCE = "finetune"


def shard(draw: np.random.Generator, count: int, size: int, *, split: str) -> Shard:
    """Random images of new classes."""
    labels = np.array([str(OLD + number % NEW) for number in range(count)])
    ids = np.array([f"{split}{number}" for number in range(count)])
    images = draw.integers(0, 256, (count, size, size, 3), np.uint8)
    record = ShardRecord(task="t2", source="random", classes=(), counts={}, skipped=0, digest="")
    return Shard(record=record, images=images, ids=ids, labels=labels, splits=np.full(count, split))


def training_of(method: str, depth: int) -> Training:
    """The digits' recipe under a method, for one epoch of batches of 128."""
    values = YAML(typ="safe").load(DIGITS)["training"]
    values["network"] |= {
        "depth": depth,
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
        "classifier": CLASSIFIERS.get(method, "cosine"),
    }
    for recipe in ("first", "later"):
        values[recipe] |= {"epochs": 1, "batch_size": 128}
    values["later"] |= {"method": method}
    return Training.model_validate(values)


def seconds_of(method: str, data: StageData, depth: int) -> float:
    """Of an epoch, with its start and its end."""
    training = training_of(method, depth)
    names = data.classes[:OLD]
    network = new_network(training.network, channels=3, pixels=8, classes=OLD, generator=keyed_generator("champion"))
    record = ModelRecord(
        task="t1",
        network=training.network,
        images=data.form,
        classes=names,
        trained_on=("t1",),
        best_epoch=1,
        select_recall=None,
    )
    champion = TrainedModel(record=record, network=network)
    with tempfile.TemporaryDirectory() as work:
        started = time.perf_counter()
        train(data, training, champion=champion, device=prepare_device(COMPUTE), work=Path(work))
        return time.perf_counter() - started


COMPUTE = Compute.model_validate(YAML(typ="safe").load(DIGITS)["compute"])


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depth", type=int, default=32)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--batches", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    count, draw = 128 * options.batches, np.random.default_rng(0)
    classes = tuple(str(number) for number in range(OLD + NEW))
    train_pool, select_pool = (
        ItemPool(shards=[shard(draw, images, options.size, split=split)])
        for split, images in (("train", count), ("select", 2 * NEW))
    )
    data = StageData(
        task="t2",
        trained_on=("t2",),
        form=ImageForm(size=options.size, channels=3, resize="squash"),
        classes=classes,
        train=LabelledImages.of(train_pool, "train", classes=classes, max_in_memory_mb=4096),
        select=LabelledImages.of(select_pool, "select", classes=classes, max_in_memory_mb=4096),
    )
    taken: dict[str, list[float]] = {name: [] for name in METHODS}
    for turn in range(options.rounds + 1):
        for name, mine in taken.items():
            seconds = seconds_of(name, data, options.depth)
            if turn > 0:  # the first one warms up
                mine.append(seconds)
    reference = min(taken[REFERENCE])
    print(f"ResNet-{options.depth}, {options.size}x{options.size}x3, batch 128, {count} images an epoch")
    for name, mine in taken.items():
        print(f"{name}: {reference / min(mine):.2f}x the images/s of {REFERENCE} ({count / min(mine):,.0f} images/s)")


if __name__ == "__main__":
    main()
