"""What each augmentation gains, alone, on photographs and on glyphs: Recall@1 of a small network trained from scratch.

    python benchmarks/crops.py FOLDER
    python benchmarks/augmentation_gains.py FOLDER

Photographs are the crops of `benchmarks/photographs.py`, whose places share a role; glyphs are characters, whose test
set is of fonts that are not trained on. `select` chooses the epoch, and `test` asks the training images. Between
settings nothing else differs: the same images, epochs and seeds. Spread is the range over the seeds.
"""

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from augmentation import NOTHING
from crops import GROUP
from ruamel.yaml import YAML

from csd_core.data.canonical import load_source, write_source
from csd_core.data.pool import ItemPool
from csd_core.data.shards import cut_shard, load_shard, write_shard
from csd_core.data.sources.folder import open_folder
from csd_core.data.sources.glyphs import Jitter, open_glyphs
from csd_core.data.sources.protocol import Source
from csd_core.learning.batches import LabelledImages
from csd_core.learning.embedding import embed
from csd_core.learning.networks.device import prepare_torch
from csd_core.learning.start import StageData
from csd_core.learning.training import train
from csd_core.params.model import SplitShares, Task
from csd_core.params.training import Training
from csd_core.records.stages import ImageForm
from csd_core.retrieval.metrics import recall_at

DIGITS = Path(__file__).parents[1] / "csd_core/project/profiles" / "digits.yaml"
SETTINGS: dict[str, dict[str, Any]] = {
    "none": {},
    "crop": {"crop_padding": 4},
    "flip": {"flip": True},
    "resized_crop, 0.5 to 1": {"resized_crop": {"scale": [0.5, 1.0], "ratio": [0.75, 1.33]}},
    "jitter": {"jitter": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}},
    "trivial-augment": {"policy": "trivial-augment"},
    "blur of half": {"blur": 0.5},
    "erase in half": {"erase": 0.5},
}
PIXELS = 32


def shard_of(folder: Path, source: Source, group: str | None, shares: dict[str, float], classes: int) -> ItemPool:
    """Return some classes of a source in roles, by way of its canonical set."""
    form = ImageForm(size=PIXELS, channels=3, resize="squash")
    write_source(folder / "set", source, name="set", form=form, max_rejected=0, complaints=folder / "complaints")
    taken = load_source(folder / "set")
    cut = cut_shard(
        taken,
        Task(previous="init", recipe="first", source="set", classes=list(taken.record.classes[:classes])),
        SplitShares(seed=1, **shares, group=group),
        name="t1",
        earlier=np.empty(0, np.str_),
    )
    write_shard(folder / "shard", taken, cut, task="t1")
    return ItemPool(shards=[load_shard(folder / "shard")])


def recall(pool: ItemPool, augmentation: dict[str, Any], *, epochs: int, seed: int) -> float:
    """Train, and return the Recall@1 of test images among the training images."""
    classes = pool.shards[0].record.classes
    parts = {
        role: LabelledImages.of(pool, role, classes=classes, max_in_memory_mb=4096)
        for role in ("train", "select", "test")
    }
    data = StageData(
        task="t1",
        trained_on=("t1",),
        form=ImageForm(size=PIXELS, channels=3, resize="squash"),
        classes=classes,
        train=parts["train"],
        select=parts["select"],
    )
    values = YAML(typ="safe").load(DIGITS)["training"]
    values["seed"] = seed
    values["network"] |= {"depth": 8, "width": 8, "mean": [0.5] * 3, "std": [0.25] * 3}
    values["first"] |= {"epochs": epochs, "augmentation": {**NOTHING, **augmentation}}
    with TemporaryDirectory() as work:
        device = torch.device("cpu")
        model = train(data, Training.model_validate(values), champion=None, device=device, work=Path(work))
    queries, rows = (embed(model.network, parts[role]) for role in ("test", "train"))
    targets = {role: parts[role].targets.numpy() for role in parts}
    return recall_at(queries, rows, query_labels=targets["test"], gallery_labels=targets["train"]).at(1)


def main() -> None:
    """Print a table for each set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the crops")
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--glyphs", type=int, default=24, help="of each class and set")
    parser.add_argument("--sets", nargs="+", choices=("photographs", "glyphs"), default=["photographs", "glyphs"])
    asked = parser.parse_args()
    prepare_torch(1)
    jitter = Jitter(rotation=12, shift=0.06, scale=0.15)
    glyphs = open_glyphs(seed=1, images_per_family=1, jitter=jitter, limit_per_class=asked.glyphs)
    sets: dict[str, tuple[Source, str | None, dict[str, float]]] = {
        "photographs": (open_folder(asked.folder, "classes"), GROUP, {"select": 0.15, "gate": 0.0, "test": 0.3}),
        "glyphs": (glyphs, None, {"select": 0.15, "gate": 0.0, "test": 0.0}),
    }
    for name in asked.sets:
        source, group, shares = sets[name]
        with TemporaryDirectory() as folder:
            pool = shard_of(Path(folder), source, group, shares, asked.classes)
            counts = {role: len(pool.rows(role)) for role in ("train", "select", "test")}
            print(f"\n{name}: {counts}, {len(pool.shards[0].record.classes)} classes, {asked.epochs} epochs")
            print("| augmentation | Recall@1 | spread | beyond none | seconds |\n|---|---|---|---|---|", flush=True)
            without = 0.0
            for setting, augmentation in SETTINGS.items():
                started = time.process_time()
                found = [100 * recall(pool, augmentation, epochs=asked.epochs, seed=seed) for seed in asked.seeds]
                mean = float(np.mean(found))
                without = without or mean
                taken = (time.process_time() - started) / len(found)
                print(
                    f"| {setting} | {mean:.1f} | {np.ptp(found):.1f} | {mean - without:+.1f} | {taken:.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
