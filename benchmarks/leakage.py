"""How much of a gate's Recall@1 is near-duplicates of training images, without and with `split.group`.

Two photographs are cut into tiles that do not overlap, the places; those of plain sky are left out. Each place is taken
five times: moved by some pixels, lighter or darker, saved as JPEG of some quality. Classes are drawn for places at
random, so nothing in a picture tells its class but another picture of the same place: a Recall@1 above chance is
leakage. Each `gate` and `test` image searches the `train` images by the cosine of its centred pixels at 16 x 16.

    python benchmarks/leakage.py
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

TILE, SHOTS, CLASSES = 64, 5, 10
PLAIN = 8
"""Levels of 255: tiles that vary less are left out."""
RULES = {"null": None, "hash": "hash", "pattern": r"/(place[0-9]+)_"}


def take(folder: Path, *, moved: int, rng: np.random.Generator) -> int:
    """Write the shots; returns how many places there are."""
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
    return places


def figures(source: CanonicalSet, rule: str | None) -> tuple[float, float]:
    """Share of gate and test images whose place trains, and their Recall@1 among the training images."""
    shares = SplitShares(seed=1, select=0.15, gate=0.2, test=0.2, group=rule)
    cut = cut_shard(
        source,
        Task(previous="init", recipe="first", source="set", classes=None),
        shares,
        name="t",
        earlier=np.empty(0, np.str_),
    )
    small = resize(source.images[cut.rows], ImageForm(size=16, channels=3, resize="squash"))
    vectors = small.reshape(len(small), -1).astype(np.float64)
    vectors -= vectors.mean(axis=1, keepdims=True)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-9
    places = np.array([path.split("/")[1].split("_")[0] for path in source.paths[cut.rows].tolist()])
    labels, train = source.labels[cut.rows], cut.splits == "train"
    asks = np.isin(cut.splits, ("gate", "test"))
    found = labels[train][(vectors[asks] @ vectors[train].T).argmax(axis=1)]
    return float(np.isin(places[asks], places[train]).mean()), float((found == labels[asks]).mean())


def main() -> None:
    """Print a table: how far the shots of a place are moved, and each rule's figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moved", type=int, nargs="+", default=[0, 1, 2, 4], help="pixels, at most, either way")
    asked = parser.parse_args()
    print("moved  places  images  rule     place trains  Recall@1")
    for moved in asked.moved:
        with TemporaryDirectory() as temporary:
            places = take(Path(temporary, "photos"), moved=moved, rng=np.random.default_rng(1))
            write_source(
                Path(temporary, "set"),
                open_folder(Path(temporary, "photos"), "classes"),
                name="set",
                form=ImageForm(size=TILE, channels=3, resize="pad"),
                max_rejected=0,
                complaints=Path(temporary, "complaints"),
            )
            source = load_source(Path(temporary, "set"))
            for name, rule in RULES.items():
                trains, recall = figures(source, rule)
                print(f"{moved:5}  {places:6}  {len(source.ids):6}  {name:8} {trains:12.1%}  {recall:8.1%}")


if __name__ == "__main__":
    main()
