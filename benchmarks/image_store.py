"""How canonical sets hold images: bytes an image, images/s written and read in random batches, and what JPEG changes.

The reference is `raw`, read from a memory map that lies in the page cache. Photographs are cut into tiles.

Run: python benchmarks/image_store.py --photographs /usr/share/backgrounds --size 224 --images 2000
"""

import argparse
import hashlib
import tempfile
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from csd_core.data.encoded import load_images, write_images

BATCH = 64
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


def tiles(folder: Path, size: int, most: int) -> npt.NDArray[np.uint8]:
    """Return up to `most` tiles (N, size, size, 3), from as many photographs as there are."""
    found: list[npt.NDArray[np.uint8]] = []
    for file in sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()):
        pixels = np.asarray(Image.open(file).convert("RGB"))
        down, across = pixels.shape[0] // size, pixels.shape[1] // size
        cut = pixels[: down * size, : across * size].reshape(down, size, across, size, 3).swapaxes(1, 2)
        found.append(cut.reshape(-1, size, size, 3))
    every = np.concatenate(found)
    return every[np.random.default_rng(0).permutation(len(every))[:most]]


def main() -> None:
    """Write and read each store, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--images", type=int, default=2000)
    asked = parser.parse_args()
    images = tiles(asked.photographs, asked.size, asked.images)
    ids = [hashlib.sha256(image.data).hexdigest() for image in images]
    order = np.random.default_rng(1).permutation(len(images))
    reference = 0.0
    print(f"{len(images):,} tiles of {asked.size} x {asked.size} pixels")
    print(f"{'store':<6} {'bytes an image':>14} {'written/s':>10} {'read/s':>8} {'of raw':>7} {'mean difference':>16}")
    for store in ("raw", "webp", "jpeg"):
        with tempfile.TemporaryDirectory() as name:
            started = time.perf_counter()
            with write_images(Path(name), images.shape[1:], store) as writer:
                for start in range(0, len(images), BATCH):
                    writer.append(images[start : start + BATCH], ids[start : start + BATCH])
            wrote = len(images) / (time.perf_counter() - started)
            size = sum(file.stat().st_size for file in Path(name).iterdir()) / len(images)
            stored = load_images(Path(name))
            best, difference = 0.0, 0.0
            for _ in range(3):
                started, difference = time.perf_counter(), 0.0
                for start in range(0, len(order), BATCH):
                    stored[np.sort(order[start : start + BATCH])]
                best = max(best, len(images) / (time.perf_counter() - started))
            difference = float(
                np.mean([np.abs(stored[row].astype(int) - images[row]).mean() for row in order[:200].tolist()])
            )
        reference = reference or best
        print(f"{store:<6} {size:>14,.0f} {wrote:>10,.0f} {best:>8,.0f} {best / reference:>7.3f} {difference:>16.2f}")


if __name__ == "__main__":
    main()
