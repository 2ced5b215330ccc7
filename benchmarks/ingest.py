"""Ingest a tree of small PNG files: images per second and peak memory.

Run: python benchmarks/ingest.py --images 60000 --size 28
"""

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from csd_core.data.canonical import write_source
from csd_core.data.sources.folder import open_folder
from csd_core.records.stages import ImageForm

CLASSES = 10


def peak_mb() -> float:
    """Peak resident memory of this process in MiB."""
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes / (1024 * 1024 if sys.platform == "darwin" else 1024)  # macOS counts bytes


def main() -> None:
    """Make a tree, ingest it, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=60_000)
    parser.add_argument("--size", type=int, default=28)
    asked = parser.parse_args()
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for number in range(CLASSES):
            (root / "tree" / str(number)).mkdir(parents=True)
        for number in range(asked.images):
            noise = rng.integers(0, 256, (asked.size, asked.size), np.uint8)
            Image.fromarray(noise).save(root / "tree" / str(number % CLASSES) / f"{number:07}.png")
        before = peak_mb()
        started = time.perf_counter()
        record = write_source(
            root / "set",
            open_folder(root / "tree", "classes"),
            name="tree",
            form=ImageForm(size=asked.size, channels=1, resize="squash"),
            max_rejected=0,
            complaints=root / "rejected.parquet",
        )
        seconds = time.perf_counter() - started
    print(f"{record.images:,} images in {seconds:.1f} s: {record.images / seconds:,.0f} images/s")
    print(f"peak memory {peak_mb():.0f} MiB, {peak_mb() - before:.0f} above the imports")


if __name__ == "__main__":
    main()
