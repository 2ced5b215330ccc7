"""How the operations of production grow with the rows: microseconds of a processor and bytes of memory for each row.

Every operation runs in a process of its own, on a project of the tests: items of 8 x 8 pixels, a linear embedder,
half of the rows from each of two tasks, the second under `keep`. Memory is the most that the process held beyond what
the imports take. The reference is numpy's write of the same vectors with an fsync, in the same run; the ratios are of
seconds.

python benchmarks/growth.py [--rows 10000 100000 1000000] [--dimension 64]
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests" / "production"), str(ROOT / "benchmarks")]

from gate import held  # noqa: E402 - found on the path set above
from projects import Project, pixels_of  # noqa: E402 - as above
from publish import write_plainly  # noqa: E402 - as above

from csd_core.live.search import Snapshot  # noqa: E402 - as above
from csd_core.releases.backfill.finish import complete  # noqa: E402 - as above
from csd_core.releases.publish import publish  # noqa: E402 - as above
from csd_core.releases.rollback import rollback  # noqa: E402 - as above
from csd_core.releases.verify import verify  # noqa: E402 - as above
from csd_core.retrieval.gallery import Gallery  # noqa: E402 - as above


def promote(project: Project, dimension: int) -> None:
    """Make the artefacts of both tasks."""
    project.promote("t1", "none", dimension=dimension)
    project.promote("t2", "keep", dimension=dimension)


def erase(project: Project) -> None:
    """Remove one item from every version and release."""
    production, item = project.production, str(Gallery.load(project.files.gallery("t2")).ids[0])
    with production.releases.changing():
        report = production.live.erase([item])
        production.releases.forget([item], tagged=report.tagged)


def load(project: Project) -> None:
    """Read what a service holds in memory, as it does when it starts."""
    production = project.production
    release = production.releases.active()
    assert release is not None
    Snapshot.load(production.live, release.table, release.rules)


def checked(project: Project) -> None:
    """Verify all releases."""
    assert not verify(project.production.releases, project.production.live, which="all").findings


STEPS: dict[str, Callable[[Project], Any]] = {
    "publish": lambda project: publish(project.production, task="t1"),
    "publish under keep": lambda project: publish(project.production),
    "load by a service": load,
    "verify": checked,
    "rollback": lambda project: rollback(project.production, why="benchmark"),
    "publish again": lambda project: publish(project.production),
    "backfill": lambda project: complete(project.production, why="benchmark"),
    "erase an item": erase,
    "write an item": lambda project: project.put(pixels_of(90, 1, seed=1), "live"),
}
"""In this order; publish and rollback have half of the rows, and the backfill embeds them."""


def child(folder: Path, step: str, images: int) -> None:
    """Run one step and print its figures."""
    project = Project(folder, tasks=("t1", "t2"), images=images)
    before = held("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins again
    started, processor = time.perf_counter(), time.process_time()
    STEPS[step](project)
    found = (time.perf_counter() - started, time.process_time() - processor, held("VmHWM") - before)
    print(json.dumps(found))


def measure(rows: int, dimension: int) -> dict[str, tuple[float, float, float]]:
    """Seconds, seconds of a processor and KiB of each step."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, images = Path(scratch) / "project", rows // 4
        project = Project(folder, tasks=("t1", "t2"), images=images)
        promote(project, dimension)
        vectors = np.load(project.files.gallery("t2") / "vectors.npy")
        started = time.perf_counter()
        write_plainly(Path(scratch) / "plain.npy", vectors)
        plain = time.perf_counter() - started
        print(f"{len(vectors):,} rows x {dimension}; numpy and fsync: {plain:.3f} s")
        found = {}
        for step in STEPS:
            command = [sys.executable, __file__, "--child", step, str(folder), "--rows", str(rows)]
            ran = subprocess.run(command, check=True, capture_output=True, text=True)
            found[step] = clock, processor, most = tuple(json.loads(ran.stdout.splitlines()[-1]))
            print(
                f"  {step:<20} {clock:8.2f} s {clock / plain:6.0f} x {1e6 * processor / len(vectors):8.1f} us a row "
                f"{most / 1024:8.0f} MiB {1024 * most / len(vectors):8.0f} bytes a row",
                flush=True,
            )
        return found


def main() -> None:
    """Print a table for each size, and what ten times the rows cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--dimension", type=int, default=64)
    parser.add_argument("--child", nargs=2, metavar=("STEP", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        step, folder = options.child
        child(Path(folder), step, options.rows[0] // 4)
        return
    found = [measure(rows, options.dimension) for rows in options.rows]
    for few, many, rows, before in zip(found, found[1:], options.rows[1:], options.rows, strict=False):
        print(f"{rows / before:g} times the rows ({rows:,}): processor, memory")
        for step in STEPS:
            print(f"  {step:<20} {many[step][1] / few[step][1]:6.1f} x {many[step][2] / few[step][2]:6.1f} x")


if __name__ == "__main__":
    main()
