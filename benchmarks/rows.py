"""Search of a large gallery over HTTP, exact and through the index, beside faiss on the same vectors, in one run.

python benchmarks/rows.py PROJECT [--rows 100000 1000000] [--clients 8] [--seconds 5]

PROJECT is a folder in which something was published. A copy of it gets rows of unit vectors around class centres; the
service then answers one client and many, by a vector and by an image. faiss answers in this process, without HTTP.
"""

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import faiss
import httpx
import numpy as np
from service import load, quantiles, serving

from csd_core.live.images import encode_png
from csd_core.live.index.nearest import build as write_cells
from csd_core.live.rows import LiveItems
from csd_core.releases.candidate import Production
from csd_core.releases.reindex import reindex
from csd_core.retrieval.embedder import Embedder
from csd_core.workspace import Workspace

CHUNK = 100_000
PROBES = 32
K = 10
DISTINCT = 2048
"""Queries."""


@contextmanager
def grown(project: Path, rows: int) -> Iterator[tuple[Path, np.ndarray]]:
    """A copy of the project with so many rows more, and their vectors (N, D)."""
    with tempfile.TemporaryDirectory(dir=project.parent) as name:
        copy = Path(name) / "project"
        shutil.copytree(project, copy, symlinks=True, ignore=shutil.ignore_patterns(".git", ".dvc", ".venv"))
        production = Production.of(Workspace(copy))
        release = production.releases.active()
        assert release is not None, "publish something first"
        model = Embedder.load(release.embedder, device="cpu")
        vectors = around_centres(rows, model.metadata.dimension)
        for start in range(0, rows, CHUNK):
            some = vectors[start : start + CHUNK]
            numbers = range(start, start + len(some))
            production.live.upsert(
                release.table,
                LiveItems(
                    ids=np.array([f"row-{number:07}" for number in numbers]),
                    labels=np.array([f"class {number % 200}" for number in numbers]),
                    vectors=some,
                    embedded_by=model.digest,
                ),
            )
        production.live.compact(release.table)
        yield copy, vectors


def around_centres(rows: int, dimension: int) -> np.ndarray:
    """(N, D) unit vectors."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((200, dimension), dtype=np.float32)
    vectors = centres[np.arange(rows) % 200] + 2 * rng.standard_normal((rows, dimension), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def one_by_one(call: Callable[[np.ndarray], object], queries: np.ndarray, *, seconds: float) -> list[float]:
    """Seconds of each query."""
    times: list[float] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        query = queries[len(times) % len(queries)][None]
        started = time.perf_counter()
        call(query)
        times.append(time.perf_counter() - started)
    return times


def with_exact_rows(project: Path, limit: int) -> None:
    """Set live.exact_rows and the index's probes, and publish the release again, with an index or without."""
    file = project / "params.yaml"
    lines = file.read_text(encoding="utf-8").splitlines()
    knobs = {"exact_rows": limit, "index_probes": PROBES}
    for number, line in enumerate(lines):
        name = line.strip().split(":")[0]
        if name in knobs:
            lines[number] = f"  {name}: {knobs[name]}"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    reindex(Production.of(Workspace(project)), why="benchmark")


def measure(project: Path, vectors: np.ndarray, options: argparse.Namespace) -> None:
    """Print the times of one gallery."""
    queries = np.ascontiguousarray(vectors[:DISTINCT])
    flat = faiss.IndexFlatIP(vectors.shape[1])
    flat.add(vectors)
    write_cells(vectors, project.parent / "cells.faiss")
    inverted = faiss.read_index(str(project.parent / "cells.faiss"), faiss.IO_FLAG_MMAP_IFC)
    inverted.nprobe = PROBES
    print(f"{len(vectors):,} rows x {vectors.shape[1]}, K = {K}")
    for name, index in (("exact", flat), ("index", inverted)):
        alone = one_by_one(partial(index.search, k=K), queries, seconds=options.seconds)
        print(f"  faiss, {name}, in this process: {quantiles(alone)}")
    form = Embedder.load(next(project.glob("releases/*/embedder.onnx")), device="cpu").metadata
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (DISTINCT, form.size, form.size, form.channels), np.uint8)
    files = [encode_png(image) for image in pixels]
    for name, limit in (("exact", 10 * len(vectors)), ("index", 0)):
        with_exact_rows(project, limit)
        with serving(project, 1) as (url, pid, seconds):
            print(f"  csd serve, {name}: ready after {seconds:.1f} s, {memory_of(pid)}")
            model = httpx.post(f"{url}/v1/embed", content=files[0], headers={"Content-Type": "image/png"}).json()[
                "model"
            ]
            asks = [json.dumps({"vector": vector.tolist(), "model": model, "k": K}).encode() for vector in queries]
            for clients in (1, options.clients):
                for path, bodies, kind in (
                    ("/v1/search", asks, "application/json"),
                    (f"/v1/search?k={K}", files, "image/png"),
                    ("/v1/embed", files, "image/png"),
                ):
                    times, bad = load(url, path, bodies, clients=clients, seconds=options.seconds, kind=kind)
                    print(
                        f"    {clients} clients, {path.split('?')[0]} by {kind}: {quantiles(times)}; failed {len(bad)}"
                    )


def memory_of(pid: int) -> str:
    """Of a process and its children, and the most it was."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    facts = dict(line.split(":", 1) for line in status.splitlines())
    now, most = (int(facts[name].split()[0]) >> 10 for name in ("VmRSS", "VmHWM"))
    return f"{now} MiB, at most {most} MiB"


def main() -> None:
    """Measure each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", type=Path)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=5)
    options = parser.parse_args()
    for rows in options.rows:
        with grown(options.project, rows) as (project, vectors):
            measure(project, vectors, options)


if __name__ == "__main__":
    main()
