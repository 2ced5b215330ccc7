"""What a live write costs after many deletions and many writes, as ratios to the empty gallery (CPU of one item).

python benchmarks/deletions.py [--deletions 1000 10000 100000] [--writes 100 1000] [--rows 1000] [--repeats 20]
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from csd_core.live.gallery import LiveGallery
from csd_core.live.rows import LiveItems
from csd_core.retrieval.gallery import Gallery

DIMENSION = 64
STEP = 1000
"""Items deleted at a time."""


def unit(count: int, seed: int) -> Any:
    """(count, D) random vectors of unit length."""
    vectors = np.random.default_rng(seed).standard_normal((count, DIMENSION)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def gallery(folder: Path, rows: int) -> LiveGallery:
    """A new live gallery with one table."""
    live = LiveGallery.open(str(folder / "live"), lock=folder / "lock", root=folder)
    names = np.full(rows, "t")
    ids = np.array([f"item-{number}" for number in range(rows)])
    made = Gallery.embedded(ids=ids, labels=names, tasks=names, splits=names, vectors=unit(rows, 1), model="m")
    live.build("g", made, origin="pipeline", images=None)
    live.tag("g", "release-0001")
    return live


def put(live: LiveGallery, identity: str) -> None:
    """Write one item."""
    live.upsert("g", LiveItems(ids=np.array([identity]), labels=np.array(["a"]), vectors=unit(1, 2), embedded_by="m"))


def ratio(call: Callable[[LiveGallery], Any], live: LiveGallery, plain: LiveGallery, repeats: int) -> float:
    """CPU of a call on a gallery against that of an upsert to the empty one; medians of calls that take turns."""
    times: tuple[list[float], list[float]] = ([], [])
    for repeat in range(repeats + 2):
        for each, seconds in zip((partial(call, live), partial(put, plain, "x")), times, strict=True):
            started = time.process_time()
            each()
            if repeat > 1:  # the first ones open files and fill caches
                seconds.append(time.process_time() - started)
    return float(np.median(times[0]) / np.median(times[1]))


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deletions", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--writes", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        for name in ("empty", "written"):
            (Path(scratch) / name).mkdir()
        empty = gallery(Path(scratch) / "empty", options.rows)
        for number in options.deletions:
            folder = Path(scratch) / f"deletions-{number}"
            folder.mkdir()
            live = gallery(folder, options.rows)
            for start in range(0, number, STEP):
                live.delete("g", [f"gone-{each}" for each in range(start, start + STEP)], why="benchmark")
            wrote = ratio(lambda live: put(live, "x"), live, empty, options.repeats)
            gone = ratio(lambda live: live.delete("g", ["x"], why=""), live, empty, options.repeats)
            print(f"{number:,} deletions: an upsert {wrote:.2f}x that of the empty gallery; a deletion {gone:.2f}x")
        done, live = 0, gallery(Path(scratch) / "written", options.rows)
        for number in options.writes:
            while done < number:
                done += 1
                put(live, f"new-{done}")
            wrote = ratio(lambda live: put(live, "x"), live, empty, options.repeats)
            print(f"{number:,} single writes: an upsert {wrote:.2f}x")


if __name__ == "__main__":
    main()
