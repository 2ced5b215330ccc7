"""Images per second of a CSD stage against a plain NCHW loop with per-image transforms, in one run.

Both train the same network with the same losses, teacher, optimiser and augmentation on the same images; the plain loop
does it as tutorials do: a PyTorch `Dataset` that crops, flips and normalises one image at a time by torchvision's
transforms, and batches N x C x H x W. They take turns, so that a busy machine slows both.

    python benchmarks/training.py --depth 32 --size 32 --channels 3 --batches 8
"""

import argparse
import copy
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from ruamel.yaml import YAML
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from csd_core.data.pool import ItemPool
from csd_core.data.shards import Shard
from csd_core.learning.augmentation.augment import augment
from csd_core.learning.batches import LabelledImages, epoch_batches
from csd_core.learning.methods.protocol import Classes
from csd_core.learning.methods.registry import METHODS
from csd_core.learning.networks.device import prepare_device
from csd_core.learning.networks.network import EmbeddingNetwork, grow_classifier, new_network
from csd_core.learning.objective import Objective
from csd_core.learning.seeding import keyed_generator
from csd_core.learning.teacher import FrozenTeacher, Outputs, outputs_of
from csd_core.learning.training import new_optimizer
from csd_core.params.model import Compute
from csd_core.params.training import LaterStage, Network
from csd_core.records.stages import ShardRecord

OLD, NEW = 50, 50
"""Classes, as in the paper's first setting."""

DIGITS = Path(__file__).parents[1] / "csd_core/project/profiles" / "digits.yaml"
RECIPE = LaterStage.model_validate(
    {
        "epochs": 1,
        "batch_size": 128,
        "per_class": None,
        "optimizer": {"name": "adam", "lr": 1e-5, "weight_decay": 5e-4, "momentum": 0.9},
        "frozen": 0.0,
        "layer_decay": 1.0,
        "gradient_checkpointing": False,
        "schedule": {"name": "multistep", "milestones": [], "factor": 0.1},
        "augmentation": {
            "crop_padding": 4,
            "flip": True,
            "resized_crop": None,
            "jitter": None,
            "policy": "none",
            "blur": 0.0,
            "erase": 0.0,
        },
        "ce": {"weight": 1.0, "columns": "all", "class_weights": "none"},
        "triplet": {"weight": 1.0, "margin": 1.0},
        "method": "csd",
        "methods": YAML(typ="safe").load(DIGITS)["training"]["later"]["methods"],
        "memory": {"images": 0, "choose": "random"},
        "teacher_mode": "eval",
        "batch_norm": "train",
    }
)


CSD = METHODS["csd"](RECIPE.methods, Classes(old=OLD, new=NEW))


class OneByOne(Dataset[tuple[Tensor, int]]):
    """Images transformed one at a time, N x C x H x W."""

    def __init__(self, images: np.ndarray, targets: list[int], network: Network) -> None:
        self._images, self._targets = images, targets
        self._transform = v2.Compose(
            [
                v2.ToPILImage(),
                v2.RandomCrop(images.shape[1], padding=RECIPE.augmentation.crop_padding),
                v2.RandomHorizontalFlip(),
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(network.mean, network.std),
            ]
        )

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, position: int) -> tuple[Tensor, int]:
        return self._transform(self._images[position]), self._targets[position]


def student_and_teacher(network: Network, channels: int) -> tuple[EmbeddingNetwork, EmbeddingNetwork]:
    """A grown student, and the network it starts from."""
    teacher = new_network(network, channels=channels, pixels=8, classes=OLD, generator=keyed_generator("teacher"))
    student = copy.deepcopy(teacher)
    grow_classifier(student, OLD + NEW, generator=keyed_generator("student"))
    return student, teacher


def plain_loop(network: Network, images: np.ndarray, targets: list[int]) -> Callable[[], float]:
    """Seconds of one epoch, as tutorials write it."""
    student, teacher = student_and_teacher(network, images.shape[3])
    for model in (student, teacher):
        model.to(memory_format=torch.contiguous_format)
    teacher.eval().requires_grad_(requires_grad=False)
    student.train()
    loader = DataLoader(OneByOne(images, targets, network), batch_size=RECIPE.batch_size, shuffle=True, drop_last=True)
    optimizer = torch.optim.Adam(
        student.parameters(), lr=RECIPE.optimizer.lr, weight_decay=RECIPE.optimizer.weight_decay
    )
    objective = Objective(RECIPE, method=CSD, old_classes=OLD)

    def epoch() -> float:
        started = time.perf_counter()
        for batch, labels in loader:
            with torch.no_grad():
                old = teacher.backbone(batch)
                taught = Outputs(old, teacher.logits(old), old, old)
            new = student.backbone(batch)
            total = objective.total(objective.terms(Outputs(new, student.logits(new), new, new), labels, taught))
            total.item()
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
        return time.perf_counter() - started

    return epoch


def csd_stage(
    network: Network, images: np.ndarray, targets: list[int], *, batch_size: int = RECIPE.batch_size
) -> Callable[[], float]:
    """Seconds of one epoch, as the stage computes it."""
    student, champion = student_and_teacher(network, images.shape[3])
    teacher = FrozenTeacher(champion)
    student.train()
    names = np.array([str(target) for target in targets])
    record = ShardRecord(task="t", source="s", classes=(), counts={}, skipped=0, digest="")
    shard = Shard(record=record, images=images, ids=names, labels=names, splits=np.full(len(names), "train"))
    data = LabelledImages.of(
        ItemPool(shards=[shard]), "train", classes=[str(k) for k in range(OLD + NEW)], max_in_memory_mb=4096
    )
    optimizer = new_optimizer(student, RECIPE.optimizer)
    objective = Objective(RECIPE, method=CSD, old_classes=OLD)
    epochs = iter(range(10**6))

    def epoch() -> float:
        started = time.perf_counter()
        generator = keyed_generator(next(epochs))
        for batch, labels in epoch_batches(data, batch_size=batch_size, generator=generator):
            ready = augment(batch, RECIPE.augmentation, generator=generator)
            taught = teacher(ready)
            total = objective.total(objective.terms(outputs_of(student, ready, "float32"), labels, taught))
            total.item()
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
        return time.perf_counter() - started

    return epoch


def main() -> None:
    """Print both rates, their ratio, and what an epoch takes; the first stage, without a teacher, takes less."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depth", type=int, default=32, help="of the CIFAR ResNet")
    parser.add_argument("--width", type=int, default=16, help="channels of its first stage")
    parser.add_argument("--size", type=int, default=32, help="pixels")
    parser.add_argument("--channels", type=int, default=3, choices=(1, 3))
    parser.add_argument("--batches", type=int, default=8, help="of 128 images, in each of the rounds")
    parser.add_argument("--rounds", type=int, default=3, help="turns; the fastest of each side counts")
    parser.add_argument("--epoch", type=int, default=25_000, help="images of an epoch, to tell its seconds")
    parser.add_argument("--threads", type=int, default=0, help="0 leaves the choice to torch")
    asked = parser.parse_args()
    prepare_device(Compute(device="cpu", embedding_device="cpu", threads=asked.threads, processes=1))
    network = Network.model_validate(
        {
            "architecture": "resnet-cifar",
            "depth": asked.depth,
            "width": asked.width,
            "head": "relu",
            "dimension": None,
            "classifier": "cosine",
            "weights": None,
            "mean": [0.5] * asked.channels,
            "std": [0.25] * asked.channels,
        }
    )
    count = asked.batches * RECIPE.batch_size
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (count, asked.size, asked.size, asked.channels), np.uint8)
    targets = draw.integers(OLD, OLD + NEW, count).tolist()
    epochs = {"plain": plain_loop(network, images, targets), "csd": csd_stage(network, images, targets)}
    seconds: dict[str, list[float]] = {name: [] for name in epochs}
    for turn in range(asked.rounds + 1):
        for name, epoch in epochs.items():
            taken = epoch()
            if turn > 0:  # the first one warms up
                seconds[name].append(taken)
    rates = {name: count / min(taken) for name, taken in seconds.items()}
    print(
        f"ResNet-{asked.depth}, width {asked.width}, {asked.size}x{asked.size}x{asked.channels}, batch 128, "
        f"{torch.get_num_threads()} threads: plain {rates['plain']:,.0f} images/s, csd {rates['csd']:,.0f} images/s, "
        f"{rates['csd'] / rates['plain']:.2f}x"
    )
    print(
        f"an epoch of {asked.epoch:,} images: plain {asked.epoch / rates['plain']:,.0f} s, csd "
        f"{asked.epoch / rates['csd']:,.0f} s; 800 of them {800 * asked.epoch / rates['csd'] / 3600:,.0f} hours"
    )


if __name__ == "__main__":
    main()
