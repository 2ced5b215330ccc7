"""How much of a gate's Recall@1 is near-duplicates of training images, without and with `split.group`.

Two photographs are cut into tiles that do not overlap, the places; those of plain sky are left out. Each place is taken
five times: moved by some pixels, lighter or darker, saved as JPEG of some quality. Classes are drawn for places at
random, so nothing in a picture tells its class but another picture of the same place: a Recall@1 above chance is
leakage. Each `gate` and `test` image searches the `train` images by the cosine of its centred pixels at 16 x 16. Then
each `gate` image searches the others of `gate`, without its own row alone, and without the rows of its group.

    python benchmarks/leakage.py
    python benchmarks/crops.py F --shots 2 && python benchmarks/leakage.py --folder F

With a folder its classes are those of photographs, of which other places may look alike.
"""

import argparse
import io
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image, ImageEnhance
from sklearn.datasets import load_sample_images

from csd_core.data.canonical import CanonicalSet, load_source, write_source
from csd_core.data.decode import resize
from csd_core.data.shards import cut_shard
from csd_core.data.sources.folder import open_folder
from csd_core.params.model import SplitShares, Task
from csd_core.records.stages import ImageForm
from csd_core.retrieval.metrics import Bools, Ints, recall_at

TILE, SHOTS, CLASSES = 64, 5, 10
PLAIN = 8
"""Levels of 255: tiles that vary less are left out."""
RULES = {"null": None, "hash": "hash", "pattern": r"/(.*place[0-9]+)_"}


def take(folder: Path, *, moved: int, rng: np.random.Generator) -> None:
    """Write the shots."""
    places = 0
    for photo in map(Image.fromarray, load_sample_images().images):
        for top in range(moved, photo.height - TILE - moved, TILE + 2 * moved):
            for left in range(moved, photo.width - TILE - moved, TILE + 2 * moved):
                tile = photo.crop((left, top, left + TILE, top + TILE))
                if np.asarray(tile.convert("L")).std() < PLAIN:
                    continue
                target = folder / f"class{rng.integers(CLASSES)}"
                target.mkdir(parents=True, exist_ok=True)
                for shot in range(SHOTS):
                    x, y = (int(each) for each in rng.integers(-moved, moved + 1, 2))
                    tile = photo.crop((left + x, top + y, left + x + TILE, top + y + TILE))
                    tile = ImageEnhance.Brightness(tile).enhance(rng.uniform(0.85, 1.15))
                    stream = io.BytesIO()
                    tile.save(stream, "JPEG", quality=int(rng.integers(50, 96)))
                    (target / f"place{places:03}_{shot}.jpg").write_bytes(stream.getvalue())
                places += 1


def figures(source: CanonicalSet, rule: str | None) -> list[float]:
    """Shares: of gate and test images whose place trains; Recall@1 in train; in gate, without own row and group."""
    shares = SplitShares(seed=1, select=0.15, gate=0.2, test=0.2, group=rule)
    task = Task(previous="init", recipe="first", source="set", classes=None)
    cut = cut_shard(source, task, shares, name="t", earlier=np.empty(0, np.str_))
    small = resize(source.images[cut.rows], ImageForm(size=16, channels=3, resize="squash"))
    vectors = small.reshape(len(small), -1).astype(np.float64)
    vectors -= vectors.mean(axis=1, keepdims=True)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-9
    places = np.array([path.rpartition("_")[0] for path in source.paths[cut.rows].tolist()])
    labels, asks = source.labels[cut.rows], np.isin(cut.splits, ("gate", "test"))

    def recall(queries: Bools, rows: Bools, **own: Ints) -> float:
        labelled = {"query_labels": labels[queries], "gallery_labels": labels[rows]}
        return recall_at(vectors[queries], vectors[rows], **labelled, k=(1,), **own).at(1)

    train, gate = cut.splits == "train", cut.splits == "gate"
    alone = np.arange(gate.sum())
    groups = alone if cut.groups is None else np.unique(cut.groups[gate], return_inverse=True)[1]
    trains = float(np.isin(places[asks], places[train]).mean())
    return [trains, recall(asks, train), recall(gate, gate, own=alone), recall(gate, gate, own=groups, groups=groups)]


def main() -> None:
    """Print a table: how far the shots of a place are moved, and each rule's figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moved", type=int, nargs="+", default=[0, 1, 2, 4], help="pixels, at most, either way")
    parser.add_argument("--folder", type=Path, help="of crops with several shots of each place")
    asked = parser.parse_args()
    print("moved  images  rule     place trains  Recall@1 in train  in gate, own row left out  own group left out")
    for moved in ["-"] if asked.folder else asked.moved:
        with TemporaryDirectory() as temporary:
            if not asked.folder:
                take(Path(temporary, "photos"), moved=moved, rng=np.random.default_rng(1))
            write_source(
                Path(temporary, "set"),
                open_folder(asked.folder or Path(temporary, "photos"), "classes"),
                name="set",
                form=ImageForm(size=TILE, channels=3, resize="pad"),
                max_rejected=0,
                complaints=Path(temporary, "complaints"),
            )
            source = load_source(Path(temporary, "set"))
            for name, rule in RULES.items():
                trains, in_train, own_row, own_group = figures(source, rule)
                print(
                    f"{moved:5}  {len(source.ids):6}  {name:8} {trains:12.1%}  {in_train:17.1%}  {own_row:25.1%}  "
                    f"{own_group:18.1%}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
