"""The live gallery against plainer ways, in one run: search, index, build and writes.

python benchmarks/live.py [--rows 100000] [--dimension 64] [--queries 1000] [--repeats 3]
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from csd_core.live.filters import Filters
from csd_core.live.gallery import LiveGallery
from csd_core.live.index.files import SearchIndex, write_index
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=64)
    parser.add_argument("--classes", type=int, default=200)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--probes", type=int, default=32)
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
    """Exact search against faiss."""

    def load() -> Snapshot:
        return Snapshot.load(live, "g", SearchRules.by_cosine("m" * 64, dimension=options.dimension))

    repeats = options.repeats
    print(f"load of a snapshot: {seconds_of(load, repeats) / build:.2f}x a build")
    snapshot = load()
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

    compare_index(live, gallery, single=single, build=build, options=options)


def compare_index(
    live: LiveGallery, gallery: Gallery, *, single: float, build: float, options: argparse.Namespace
) -> None:
    """Search through the index against faiss's own search of the same file, for as many candidates."""
    rules = SearchRules.by_cosine("m" * 64, dimension=options.dimension)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "index"
        indexing = seconds_of(lambda: write_index(folder, live, "g", rules), 1)
        size = sum(path.stat().st_size for path in folder.iterdir()) / len(gallery)
        print(f"index: written in {indexing / build:.2f}x a build; {size:.0f} bytes a row")
        index = SearchIndex.of(folder)
        opened = Snapshot.load(live, "g", rules, index=index, probes=options.probes)
        again = seconds_of(lambda: Snapshot.load(live, "g", rules, index=index), options.repeats)
        print(f"    load of a snapshot: {again / build:.3f}x a build", end="; ")
        bare = faiss.read_index(str(folder / "0.faiss"), faiss.IO_FLAG_MMAP_IFC)
        parameters = faiss.SearchParametersIVF(nprobe=options.probes)
        faiss.omp_set_num_threads(1)
        queries = np.ascontiguousarray(gallery.vectors[: options.queries])
        one = queries[:1]
        wanted = K + 160
        alone = seconds_of(lambda: bare.search(one, wanted, params=parameters), 200)
        batch = seconds_of(lambda: bare.search(queries, wanted, params=parameters), options.repeats)
        ours = seconds_of(lambda: opened.search(one, k=K), 200)
        many = seconds_of(lambda: opened.search(queries, k=K), options.repeats)
        print(f"recall@{K} with {options.probes} cells {opened.recall_of_index(k=K, queries=200):.4f}")
        print(
            f"    {ours / alone:.2f}x faiss's search of the same file alone ({alone * 1e3:.3f} ms), "
            f"{many / batch:.2f}x in a batch; {ours / single:.2f}x an exact search in memory"
        )
        for label in (("7",), tuple(map(str, range(options.classes // 2)))):
            filtered = seconds_of(partial(opened.search, one, k=K, where=Filters(label=label)), 50)
            print(f"    with a filter on {len(label)} of {options.classes} classes: {filtered / ours:.2f}x without one")


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
    print(f"compaction of a table with a tag: {seconds_of(lambda: live.compact('g'), 1) / build:.1f}x")
    print(f"erasure: {seconds_of(lambda: live.erase([gallery.ids[0]]), 1) / build:.1f}x")


if __name__ == "__main__":
    main()
