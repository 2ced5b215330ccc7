"""What csd's cells find of the ten nearest rows, by cells searched and candidates compared, and what a search takes.

Rows, queries and whole searches are those of search_indices.py. Times are of the processor, one query at a time; the
reference is faiss's bare search of the same cells for as many candidates, in the same run.

    taskset -c 1 python benchmarks/index_recall.py --rows 100000 1000000 [--queries 200]
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from search_indices import BLOCK, CsdIndex, K, Vectors, draw, truth_of

from csd_core.live.index import nearest

DIMENSION = 64
PROBES = (8, 16, 32, 64, 128)
CANDIDATES = (50, 100, 170, 330, 650)


def share(found: np.ndarray, true: np.ndarray) -> float:
    """Recall@10."""
    return float(np.mean([len(set(a) & set(b)) / K for a, b in zip(found.tolist(), true.tolist(), strict=True)]))


def median(ask: Callable[[Vectors], Any], queries: Vectors) -> float:
    """Milliseconds of one query."""
    times = []
    for each in queries:
        started = time.process_time()
        ask(each[None])
        times.append(time.process_time() - started)
    return 1e3 * float(np.median(times))


def measure(count: int, queries: int, folder: Path) -> None:
    """Print both tables of so many rows."""
    classes = max(20, count // 500)
    rows = np.lib.format.open_memmap(folder / "rows.npy", "w+", np.float32, (count, DIMENSION))
    for number, start in enumerate(range(0, count, BLOCK)):
        size = min(BLOCK, count - start)
        rows[start : start + size] = draw(size, DIMENSION, classes=classes, seed=number + 1)
    asked = draw(queries, DIMENSION, classes=classes, seed=10**6)
    true = truth_of(rows, asked)
    engine = CsdIndex()
    started = time.process_time()
    engine.build(rows, folder)
    index = faiss.read_index(str(folder / "0.faiss"), faiss.IO_FLAG_MMAP_IFC | faiss.IO_FLAG_READ_ONLY)
    print(f"\n{count:,} rows, {index.nlist} cells, built in {time.process_time() - started:.1f} s of a processor")
    print(f"| probes | {' | '.join(f'{each} candidates' for each in CANDIDATES)} |\n|" + "---|" * (len(CANDIDATES) + 1))
    for probes in PROBES:
        found = index.search(asked, max(CANDIDATES), params=faiss.SearchParametersIVF(nprobe=probes))[1]
        print(f"| {probes} | {' | '.join(f'{share(found[:, :each], true):.4f}' for each in CANDIDATES)} |", flush=True)
    print("| candidates | probes | whole, ms | bare, ms | whole / bare |\n|" + "---|" * 5)
    open_at = engine.open(rows, folder)
    denser = max(1.0, (count / nearest._DENSE) ** 0.5)  # noqa: SLF001 - what a search does by itself
    for candidates in CANDIDATES[2:]:
        nearest._MARGIN = (candidates - K) / denser  # type: ignore[assignment]  # noqa: SLF001 - what is compared here
        for probes in PROBES[2:]:
            ask = open_at(max(1, round(probes / denser)))
            ask(asked)
            parameters = faiss.SearchParametersIVF(nprobe=probes)
            whole = median(ask, asked)
            bare = median(lambda query, p=parameters, m=candidates: index.search(query, m, params=p), asked)
            print(f"| {candidates} | {probes} | {whole:.3f} | {bare:.3f} | {whole / bare:.1f} |", flush=True)


def main() -> None:
    """Print the tables of each number of rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000])
    parser.add_argument("--queries", type=int, default=200)
    options = parser.parse_args()
    faiss.omp_set_num_threads(1)
    for count in options.rows:
        with tempfile.TemporaryDirectory() as folder:
            measure(count, options.queries, Path(folder))


if __name__ == "__main__":
    main()
