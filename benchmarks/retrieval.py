"""Recall@K and mAP@R against a per-query numpy loop, in one run: the ratio of times, and peak memory over the inputs.

python benchmarks/retrieval.py [--rows 10000] [--dimension 64] [--classes 100] [--loop-queries 1000]
"""

import argparse
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np

from csd_core.retrieval.metrics import map_at_r, recall_at


def loop_recall(queries: Any, gallery: Any, query_labels: Any, gallery_labels: Any, *, k: int, start: int) -> float:
    """Recall@k one query at a time; query i's own row is start + i."""
    hits = 0
    for i, query in enumerate(queries):
        similar = gallery @ query
        similar[start + i] = -np.inf
        hits += bool((gallery_labels[np.argsort(-similar)[:k]] == query_labels[i]).any())
    return hits / len(queries)


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds and result."""
    started = time.perf_counter()
    result = call()
    return time.perf_counter() - started, result


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--dimension", type=int, default=64)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--loop-queries", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    labels = rng.integers(0, options.classes, options.rows)
    vectors = rng.standard_normal((options.classes, options.dimension), dtype=np.float32)[labels]
    vectors += 1.5 * rng.standard_normal(vectors.shape, dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    own = np.arange(options.rows)
    some = slice(0, min(options.loop_queries, options.rows))

    def ours(k: tuple[int, ...] = (1, 5, 10)) -> Any:
        return recall_at(vectors, vectors, query_labels=labels, gallery_labels=labels, k=k, own=own)

    seconds, recall = min((timed(ours) for _ in range(options.repeats)), key=lambda pair: pair[0])
    loop_seconds, by_loop = timed(lambda: loop_recall(vectors[some], vectors, labels[some], labels, k=1, start=0))
    loop_seconds *= options.rows / (some.stop - some.start)
    assert abs(recall.of(np.arange(some.stop)).at(1) - by_loop) < 1e-3  # ties aside, both count the same

    tracemalloc.start()
    ours()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    precision_seconds, _ = timed(
        lambda: map_at_r(vectors, vectors, query_labels=labels, gallery_labels=labels, own=own)
    )
    print(f"{options.rows:,} queries x {options.rows:,} rows x {options.dimension}, {options.classes} classes")
    print(f"Recall@1,5,10: {seconds:.3f} s; per-query numpy loop {loop_seconds:.2f} s: {loop_seconds / seconds:.0f}x")
    print(f"peak memory over the inputs: {peak / 2**20:.0f} MiB")
    print(f"mAP@R: {precision_seconds:.2f} s: {precision_seconds / seconds:.1f}x the time of Recall@K")


if __name__ == "__main__":
    main()
