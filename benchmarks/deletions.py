"""What a live write costs after many deletions and many writes, as ratios to the empty gallery (CPU of one item).

python benchmarks/deletions.py [--deletions 1000 10000 100000] [--writes 100 1000] [--rows 1000] [--repeats 20]
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from csd_core.production.live import LiveGallery
from csd_core.production.rows import LiveItems
from csd_core.retrieval.gallery import Gallery

DIMENSION = 64


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


def cost(call: Callable[[], Any], repeats: int) -> float:
    """Median CPU seconds."""
    times = []
    for _ in range(repeats):
        started = time.process_time()
        call()
        times.append(time.process_time() - started)
    return float(np.median(times))


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--deletions", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--writes", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "empty").mkdir()
        empty = gallery(Path(scratch) / "empty", options.rows)
        plain = cost(lambda: put(empty, "x"), options.repeats)
        for number in options.deletions:
            folder = Path(scratch) / f"deletions-{number}"
            folder.mkdir()
            live = gallery(folder, options.rows)
            step = 1000
            for start in range(0, number, step):
                live.delete("g", [f"gone-{each}" for each in range(start, start + step)], why="benchmark")
            ratio = cost(lambda live=live: put(live, "x"), options.repeats) / plain
            gone = cost(lambda live=live: live.delete("g", ["x"], why=""), options.repeats) / plain
            print(f"{number:,} deletions: an upsert {ratio:.2f}x that of the empty gallery; a deletion {gone:.2f}x")
        done = 0
        for number in options.writes:
            while done < number:
                done += 1
                put(empty, f"new-{done}")
            print(f"{number:,} single writes: an upsert {cost(lambda: put(empty, 'x'), options.repeats) / plain:.2f}x")


if __name__ == "__main__":
    main()
