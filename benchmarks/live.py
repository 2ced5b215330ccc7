"""The live gallery against plainer ways, in one run: search, index, build and writes.

python benchmarks/live.py [--rows 100000] [--dimension 64] [--queries 1000] [--repeats 3]
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from csd_core.live.filters import Filters
from csd_core.live.gallery import LiveGallery
from csd_core.live.rows import LiveItems, StoredImages
from csd_core.live.rules import SearchRules
from csd_core.live.search import Snapshot
from csd_core.retrieval.gallery import Gallery

K = 10


def seconds_of(call: Callable[[], Any], repeats: int) -> float:
    """The least seconds of some repetitions."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return min(times)


def gallery_of(rows: int, dimension: int, classes: int) -> Gallery:
    """Rows around class centres."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, rows)
    vectors = rng.standard_normal((classes, dimension), dtype=np.float32)[labels]
    vectors += 2 * rng.standard_normal(vectors.shape, dtype=np.float32)
    names = labels.astype(np.str_)
    return Gallery.embedded(
        ids=np.array([f"{i:064x}" for i in rng.permutation(rows)]),
        labels=names,
        tasks=np.full(rows, "t1"),
        splits=np.full(rows, "train"),
        vectors=vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
        model="m" * 64,
    )


def saved(path: Path, vectors: Any) -> None:
    """Write and force to disk."""
    with path.open("wb") as file:
        np.save(file, vectors)
        file.flush()
        os.fsync(file.fileno())


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=64)
    parser.add_argument("--classes", type=int, default=200)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--partitions", type=int, default=256)
    parser.add_argument("--probes", type=int, default=20)
    options = parser.parse_args()
    gallery = gallery_of(options.rows, options.dimension, options.classes)
    print(f"{options.rows:,} rows x {options.dimension}, {options.queries} queries, K = {K}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        live = LiveGallery.open(str(folder / "live"), lock=folder / "lock")
        build = compare_builds(live, gallery, folder, repeats=options.repeats)
        compare_searches(live, gallery, build=build, options=options)
        compare_writes(live, gallery, build=build, repeats=options.repeats)


def compare_builds(live: LiveGallery, gallery: Gallery, folder: Path, *, repeats: int) -> float:
    """Seconds of a build with small images, which the other figures are ratios to."""
    png = os.urandom(300)

    def images(ids: Any) -> StoredImages:
        return StoredImages([png] * len(ids), [None] * len(ids))

    plain = seconds_of(lambda: saved(folder / "vectors.npy", gallery.vectors), repeats)
    bare = seconds_of(lambda: live.build("g", gallery, origin="pipeline", images=None), repeats)
    full = seconds_of(lambda: live.build("g", gallery, origin="pipeline", images=images), repeats)
    live.tag("g", "first")
    print(f"build: {bare / plain:.1f}x np.save with fsync of the vectors; with images of 300 bytes {full / plain:.1f}x")
    print(f"digest: {seconds_of(lambda: live.digest('g'), repeats) / full:.2f}x a build with images")
    return full


def compare_searches(live: LiveGallery, gallery: Gallery, *, build: float, options: argparse.Namespace) -> None:
    """Exact search against faiss, and the index against both ways to search exactly."""

    def load(**more: Any) -> Snapshot:
        return Snapshot.load(live, "g", SearchRules.by_cosine("m" * 64, dimension=options.dimension), **more)

    repeats = options.repeats
    print(f"load of a snapshot: {seconds_of(lambda: load(exact_rows=options.rows), repeats) / build:.2f}x a build")
    snapshot = load(exact_rows=options.rows)
    flat = faiss.IndexFlatIP(options.dimension)
    flat.add(gallery.vectors)
    queries = np.ascontiguousarray(gallery.vectors[: options.queries])
    one = queries[:1]
    ours, theirs = snapshot.search(queries, k=K).ids, gallery.ids[flat.search(queries, K)[1]]
    assert np.mean(ours == theirs) > 0.99  # but for neighbours that rounding lets change places
    single = seconds_of(lambda: snapshot.search(one, k=K), 50)
    many = seconds_of(lambda: snapshot.search(queries, k=K), repeats) / seconds_of(
        lambda: flat.search(queries, K), repeats
    )
    alone = single / seconds_of(lambda: flat.search(one, K), 50)
    print(f"exact search against faiss IndexFlatIP: {many:.2f}x in a batch, {alone:.2f}x alone")
    filtered = seconds_of(lambda: snapshot.search(one, k=K, where=Filters(label=("7",))), 50)
    print(f"with a filter on one class of {options.classes}: {filtered / single:.2f}x an exact search alone")

    indexing = seconds_of(lambda: live.index("g", partitions=options.partitions), 1)
    indexed = load(exact_rows=0, probes=options.probes)
    ann = seconds_of(lambda: indexed.search(one, k=K), 50)
    through = load(exact_rows=0, probes=options.partitions)
    every = seconds_of(lambda: through.search(one, k=K), 50)
    print(f"index: built in {indexing / build:.2f}x a build; {options.probes} of {options.partitions} cells searched:")
    print(
        f"    recall@{K} {indexed.recall_of_index(k=K, queries=200):.4f}; {ann / every:.2f}x the time of all cells,",
        end=" ",
    )
    print(f"{ann / single:.2f}x that of an exact search in memory")


def compare_writes(live: LiveGallery, gallery: Gallery, *, build: float, repeats: int) -> None:
    """Writes and upkeep, as shares of a build."""

    def items(count: int) -> LiveItems:
        vectors = gallery.vectors[:count]
        return LiveItems(
            ids=gallery.ids[:count], labels=gallery.labels[:count], vectors=vectors, embedded_by=gallery.embedded_by[0]
        )

    one, many = items(1), items(1000)
    print(f"1 row written: {seconds_of(lambda: live.upsert('g', one), repeats) / build:.3f}x a build;", end=" ")
    print(f"1000 rows: {seconds_of(lambda: live.upsert('g', many), repeats) / build:.3f}x")
    print(f"changed since a tag: {seconds_of(lambda: live.changed_since('g', 'first'), repeats) / build:.2f}x")
    print(f"compaction of a table with index and tag: {seconds_of(lambda: live.compact('g'), 1) / build:.1f}x")
    print(f"erasure: {seconds_of(lambda: live.erase([gallery.ids[0]]), 1) / build:.1f}x")


if __name__ == "__main__":
    main()
