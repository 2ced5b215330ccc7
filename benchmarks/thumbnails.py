"""What small pictures of the originals cost: processor seconds of ingest and of the making of a table, bytes a row.

python benchmarks/thumbnails.py [--images 3000] [--width 500] [--form 32] [--sizes 0 128 256 512]

The originals are JPEG cut from scikit-learn's two photos, no two alike, three wide for two high. 0 keeps none.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from csd_core.data.canonical import load_source, write_source
from csd_core.data.pool import ItemPool
from csd_core.data.shards import ShardItems, load_shard, write_shard
from csd_core.data.sources.folder import open_folder
from csd_core.live.gallery import LiveGallery
from csd_core.records.stages import ImageForm
from csd_core.releases.pool_images import PoolImages
from csd_core.retrieval.gallery import Gallery
from csd_core.workspace import Workspace

DIMENSION = 64


def photos(folder: Path, count: int, width: int) -> None:
    """Write the originals."""
    folder.mkdir(parents=True)
    scenes = [Image.fromarray(each) for each in load_sample_images().images]
    rng = np.random.default_rng(0)
    for number in range(count):
        scene = scenes[number % len(scenes)]
        across = int(rng.integers(300, scene.width))
        left, top = rng.integers(0, scene.width - across), rng.integers(0, scene.height - across * 2 // 3)
        box = (left, top, left + across, top + across * 2 / 3)
        scene.resize((width, width * 2 // 3), Image.Resampling.BICUBIC, box).save(
            folder / f"{number:06}.jpg", quality=90
        )


def size_of(folder: Path) -> int:
    """Bytes of the files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def measure(root: Path, form: ImageForm, size: int) -> dict[str, float]:
    """Ingest, split, and build a live table."""
    workspace = Workspace(root / str(size))
    started = time.process_time()
    write_source(
        workspace.source("mine"),
        open_folder(root / "photos", "classes"),
        name="mine",
        form=form,
        max_rejected=0,
        complaints=root / "bad",
        thumbnails=size or None,
    )
    ingested = time.process_time()
    source = load_source(workspace.source("mine"))
    every = np.arange(len(source.ids))
    cut = ShardItems(classes=("scene",), rows=every, splits=np.full(len(every), "train"), skipped=0, emptied=())
    write_shard(workspace.shard("t1"), source, cut, task="t1")
    pool = ItemPool(shards=[load_shard(workspace.shard("t1"))])
    vectors = np.random.default_rng(0).standard_normal((len(every), DIMENSION)).astype(np.float32)
    gallery = Gallery.embedded(
        ids=pool.ids,
        labels=pool.labels,
        tasks=pool.tasks,
        splits=pool.splits,
        vectors=vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
        model="m" * 64,
    )
    live = LiveGallery.open(str(workspace.root / "live"), lock=workspace.root / "lock", root=workspace.root)
    before = time.process_time()
    images = PoolImages(pool.shards, kept="store", thumbnails=bool(size), workspace=workspace)
    live.build("g", gallery, origin="pipeline", images=images)
    built = time.process_time()
    live.digest("g", whole=True)
    return {
        "ingest": ingested - started,
        "build": built - before,
        "digest": time.process_time() - built,
        "set B/image": size_of(workspace.source("mine")) / len(every),
        "table B/row": size_of(workspace.root / "live") / len(every),
    }


def main() -> None:
    """Print a line for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--width", type=int, default=500)
    parser.add_argument("--form", type=int, default=32)
    parser.add_argument("--sizes", type=int, nargs="+", default=[0, 128, 256, 512])
    asked = parser.parse_args()
    form = ImageForm(size=asked.form, channels=3, resize="squash")
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        photos(root / "photos" / "scene", asked.images, asked.width)
        measure(root, form, asked.sizes[0])  # once for the disk's cache
        for size in asked.sizes:
            figures = measure(root, form, size)
            print(size, ", ".join(f"{name} {value:,.1f}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
