"""Publish and rollback of a large gallery, as ratios to writing the same vectors with numpy and an fsync.

Items are 8 x 8 images, stored beside their vectors. Half of the rows come with the second task, under `keep`; rows that
people wrote stay, and the rollback finds no row to embed anew but those, for they were written after the first release.

python benchmarks/publish.py [--rows 100000] [--dimension 64] [--live 1000] [--repeats 3]
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "production"))  # the tests' projects: linear embedders, real artefacts

from projects import Project, pixels_of  # noqa: E402 - found on the path set above

from csd_core.releases.publish import publish  # noqa: E402 - as above
from csd_core.releases.rollback import rollback  # noqa: E402 - as above
from csd_core.releases.verify import verify  # noqa: E402 - as above


def timed(call: Callable[[], Any]) -> float:
    """Seconds."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def write_plainly(path: Path, vectors: np.ndarray) -> None:
    """What any store has to do at least."""
    with path.open("wb") as file:
        np.save(file, vectors)
        file.flush()
        os.fsync(file.fileno())


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=64)
    parser.add_argument("--live", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        project = Project(Path(scratch) / "project", tasks=("t1", "t2"), images=options.rows // 4)
        project.promote("t1", "none", dimension=options.dimension)
        project.promote("t2", "keep", dimension=options.dimension)
        vectors = np.load(project.files.gallery("t2") / "vectors.npy")
        plain = min(timed(lambda: write_plainly(Path(scratch) / "plain.npy", vectors)) for _ in range(options.repeats))
        print(f"{len(vectors):,} rows x {options.dimension}; numpy and fsync: {plain:.3f} s")

        steps: list[tuple[str, float]] = []
        first = timed(lambda: publish(project.production, task="t1"))
        project.put(pixels_of(90, options.live, seed=1), "live")
        second = timed(
            lambda: publish(project.production, on_step=lambda step: steps.append((step, time.perf_counter())))
        )
        at = dict(steps)
        back = timed(lambda: rollback(project.production, why="benchmark"))
        production = project.production
        checked = timed(lambda: verify(production.releases, production.live))
        assert project.rows()
    for what, seconds in (
        (f"first publish ({len(vectors) // 2:,} rows)", first),
        (f"publish under keep with {options.live:,} live rows", second),
        ("  of it: the table is built", at["built"] - at["marked"]),
        ("  of it: writers wait", at["switched"] - at["locked"]),
        (f"rollback ({len(vectors) // 2:,} rows)", back),
        ("verify the release in force", checked),
    ):
        print(f"{what}: {seconds:.2f} s, {seconds / plain:.0f}x")


if __name__ == "__main__":
    main()
