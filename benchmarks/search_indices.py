"""Vector indices beside each other: which finds 98 % of the ten nearest rows soonest, and what does it take to build?

Rows are unit vectors around class centres, of classes that are unequal in size and whose centres lie in families; a
class spreads in few directions. Queries are other draws of the same classes. Every index is built and asked in a
process of its own, with the least effort (cells, or width of the graph search) that reaches the recall, and is compared
with faiss's IVF-Flat of the same run. Times are of the processor, for the machine may be busy. LanceDB and usearch
answer from disk, as faiss does where its name says mmap or refined.

    taskset -c 0 python benchmarks/search_indices.py --rows 100000 1000000
    taskset -c 0 python benchmarks/search_indices.py --rows 10000000 --only ivf-flat ivf-sq8-mmap ivf-pq-refined
"""

import argparse
import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from csd_core.live.exact import Source, search
from csd_core.live.filters import Filters
from csd_core.live.index import nearest
from csd_core.live.memory import REPETITIVE, Rows, RowsPart
from csd_core.live.rules import SearchGroup
from csd_core.records.ranking import Identity

K, TARGET, BLOCK = 10, 0.98, 250_000
EFFORTS = (4, 8, 16, 32, 64, 128, 256, 512)
REFERENCE = "ivf-flat"
Vectors = npt.NDArray[np.float32]
Ask = Callable[[Vectors], npt.NDArray[np.int64]]
"""(Q, D) -> (Q, K) numbers of rows."""


def draw(count: int, dimension: int, *, classes: int, seed: int) -> Vectors:
    """(count, D) of unit length."""
    world = np.random.default_rng(0)
    families = world.standard_normal((max(1, classes // 20), dimension), dtype=np.float32)
    centres = families[np.arange(classes) % len(families)] + 0.7 * world.standard_normal(
        (classes, dimension), dtype=np.float32
    )
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    spread = world.standard_normal((16, 12, dimension), dtype=np.float32) / np.sqrt(12 * dimension)
    share = 1 / np.arange(1, classes + 1) ** 0.5
    rng = np.random.default_rng(seed)
    label = rng.choice(classes, count, p=share / share.sum())
    along = rng.standard_normal((count, 12), dtype=np.float32)
    found = centres[label] + 0.15 * rng.standard_normal((count, dimension), dtype=np.float32) / np.sqrt(dimension)
    for each in range(16):
        mine = label % 16 == each
        found[mine] += along[mine] @ spread[each]
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)


def blocks(rows: Vectors) -> Iterator[tuple[int, Vectors]]:
    """Start and vectors of each block of rows."""
    for start in range(0, len(rows), BLOCK):
        yield start, np.ascontiguousarray(rows[start : start + BLOCK])


def cells(rows: int) -> int:
    """Cells of an inverted file: a power of two near the square root of 2 N."""
    return int(2 ** round(np.log2(np.sqrt(2 * rows))))


class FaissIndex:
    """An index by faiss's factory, in memory or mapped; `refine` looks at the original vectors of so many times K."""

    def __init__(self, recipe: str, *, mapped: bool = False, refine: int = 0) -> None:
        self.recipe, self.mapped, self.refine = recipe, mapped, refine

    def build(self, rows: Vectors, folder: Path) -> None:
        """Train, add, and write to disk."""
        recipe = self.recipe.format(cells=cells(len(rows)))
        index = faiss.index_factory(rows.shape[1], recipe, faiss.METRIC_INNER_PRODUCT)
        some = np.random.default_rng(0).choice(len(rows), min(len(rows), 64 * cells(len(rows))), replace=False)
        index.train(np.ascontiguousarray(rows[np.sort(some)]))
        for _, block in blocks(rows):
            index.add(block)
        faiss.write_index(index, str(folder / "index.faiss"))

    def open(self, rows: Vectors, folder: Path) -> Callable[[int], Ask]:
        """Effort -> search."""
        flags = faiss.IO_FLAG_MMAP_IFC | faiss.IO_FLAG_READ_ONLY if self.mapped else 0
        index = faiss.read_index(str(folder / "index.faiss"), flags)
        graph = self.recipe.startswith("HNSW")

        def at(effort: int) -> Ask:
            parameters = (
                faiss.SearchParametersHNSW(efSearch=effort) if graph else faiss.SearchParametersIVF(nprobe=effort)
            )

            def ask(queries: Vectors) -> npt.NDArray[np.int64]:
                near = index.search(queries, K * max(1, self.refine), params=parameters)[1]
                if not self.refine:
                    return np.asarray(near)
                cosines = np.einsum("qkd,qd->qk", rows[near], queries)
                return np.take_along_axis(near, np.argsort(-cosines, axis=1)[:, :K], axis=1)

            return ask

        return at


class LanceIndex:
    """One of LanceDB's, over a table of its own."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def build(self, rows: Vectors, folder: Path) -> None:
        """Write the table and its index."""
        import lancedb  # noqa: PLC0415 - only in its own process
        import pyarrow as pa  # noqa: PLC0415
        from lancedb.index import HnswSq, IvfPq, IvfRq  # noqa: PLC0415

        dimension = rows.shape[1]
        schema = pa.schema([pa.field("row", pa.int64()), pa.field("vector", pa.list_(pa.float32(), dimension))])

        def batches() -> Iterator[pa.RecordBatch]:
            for start, block in blocks(rows):
                column = pa.FixedSizeListArray.from_arrays(pa.array(block.reshape(-1)), dimension)
                yield pa.record_batch([pa.array(np.arange(start, start + len(block))), column], schema=schema)

        table = lancedb.connect(str(folder / "lance")).create_table(
            "rows", pa.RecordBatchReader.from_batches(schema, batches())
        )
        common: dict[str, Any] = {"distance_type": "cosine", "num_partitions": cells(len(rows))}
        if self.kind == "hnsw":
            common["num_partitions"] = max(1, len(rows) // 1_000_000)
        config: Any = {"pq": IvfPq, "rq": IvfRq, "hnsw": HnswSq}[self.kind](**common)
        table.create_index("vector", config=config)

    def open(self, rows: Vectors, folder: Path) -> Callable[[int], Ask]:
        """Effort -> search; LanceDB answers one query at a time."""
        import lancedb  # noqa: PLC0415

        table = lancedb.connect(str(folder / "lance")).open_table("rows")

        def at(effort: int) -> Ask:
            def one(query: Vectors) -> list[int]:
                asked: Any = table.search(query, vector_column_name="vector").distance_type("cosine").limit(K)
                if self.kind == "hnsw":
                    asked = asked.nprobes(max(1, len(rows) // 1_000_000)).ef(max(effort, 4 * K)).refine_factor(4)
                else:
                    asked = asked.nprobes(effort).refine_factor(10)
                found = asked.select(["row", "_distance"]).to_arrow()["row"].to_pylist()
                return (found + [-1] * K)[:K]

            return lambda queries: np.array([one(each) for each in queries])

        return at


class UsearchIndex:
    """usearch's graph, viewed on disk."""

    def __init__(self, scalar: str) -> None:
        self.scalar = scalar

    def _empty(self, dimension: int) -> Any:
        from usearch.index import Index  # noqa: PLC0415

        return Index(ndim=dimension, metric="cos", dtype=self.scalar, connectivity=16, expansion_add=100)

    def build(self, rows: Vectors, folder: Path) -> None:
        """Add row by row."""
        index = self._empty(rows.shape[1])
        for start, block in blocks(rows):
            index.add(np.arange(start, start + len(block)), block, threads=1)
        index.save(str(folder / "index.usearch"))

    def open(self, rows: Vectors, folder: Path) -> Callable[[int], Ask]:
        """Effort -> search."""
        index = self._empty(rows.shape[1])
        index.view(str(folder / "index.usearch"))

        def at(effort: int) -> Ask:
            def ask(queries: Vectors) -> npt.NDArray[np.int64]:
                index.expansion_search = max(effort, K)
                return np.asarray(index.search(queries, K, threads=1).keys, np.int64).reshape(len(queries), -1)

            return ask

        return at


class CsdIndex:
    """A whole search as a service makes it, but for HTTP: cells propose, the rows' own vectors decide, words follow."""

    def build(self, rows: Vectors, folder: Path) -> None:
        """Write the cells."""
        nearest.build(rows, folder / "0.faiss", threads=faiss.omp_get_max_threads())

    def open(self, rows: Vectors, folder: Path) -> Callable[[int], Ask]:
        """Probes -> search."""
        found = nearest.Nearest(folder / "0.faiss")
        group = SearchGroup(query_model="m", dimension=rows.shape[1], score=Identity(), provenances=frozenset())
        part = RowsPart(group=group, positions=None, vectors=rows.view(np.ndarray), nearest=found)
        ids = pc.utf8_lpad(pa.array(np.arange(len(rows))).cast(pa.string()), 10, "0")
        word = pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(rows), np.int8)), pa.array(["word"]))
        facts = pa.record_batch({"id": ids, "path": ids, **dict.fromkeys(REPETITIVE, word)})
        source = Source.of(Rows(facts=facts, parts=(part,)))

        def at(probes: int) -> Ask:
            def ask(queries: Vectors) -> npt.NDArray[np.int64]:
                return search([source], {"m": queries}, k=K, where=Filters(), probes=probes).ids.astype(np.int64)

            return ask

        return at


ENGINES = {
    "csd": CsdIndex(),
    "ivf-flat": FaissIndex("IVF{cells},Flat"),
    "ivf-sq8": FaissIndex("IVF{cells},SQ8"),
    "ivf-sq8-mmap": FaissIndex("IVF{cells},SQ8", mapped=True, refine=4),
    "ivf-pq-refined": FaissIndex("IVF{cells},PQ32x4fs", mapped=True, refine=20),
    "ivf-rabitq": FaissIndex("IVF{cells},RaBitQ", mapped=True, refine=20),
    "hnsw-sq": FaissIndex("HNSW16_SQ8", refine=2),
    "lance-ivf-pq": LanceIndex("pq"),
    "lance-ivf-rq": LanceIndex("rq"),
    "lance-hnsw-sq": LanceIndex("hnsw"),
    "usearch-f16": UsearchIndex("f16"),
    "usearch-i8": UsearchIndex("i8"),
}


def truth_of(rows: Vectors, queries: Vectors) -> npt.NDArray[np.int64]:
    """(Q, K) nearest rows, a block at a time."""
    best, numbers = np.full((len(queries), K), -2, np.float32), np.zeros((len(queries), K), np.int64)
    for start, block in blocks(rows):
        cosines, near = faiss.knn(queries, block, K, metric=faiss.METRIC_INNER_PRODUCT)
        every, where = np.concatenate([best, cosines], 1), np.concatenate([numbers, near + start], 1)
        order = np.argsort(-every, axis=1)[:, :K]
        best, numbers = np.take_along_axis(every, order, 1), np.take_along_axis(where, order, 1)
    return numbers


def peak() -> float:
    """MiB that this process has held at most, mapped files included."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def child(name: str, part: str, folder: Path, threads: int) -> dict[str, float]:
    """What one process measures: a build, or searches of what was built."""
    faiss.omp_set_num_threads(threads)
    rows = np.load(folder / "rows.npy", mmap_mode="r")
    mine = folder / name
    if part == "build":
        mine.mkdir()
        before, start = peak(), time.process_time()
        ENGINES[name].build(rows, mine)
        size = sum(path.stat().st_size for path in mine.rglob("*") if path.is_file())
        return {"seconds": time.process_time() - start, "peak": peak() - before, "bytes": size / len(rows)}
    queries, true = np.load(folder / "queries.npy"), np.load(folder / "true.npy")
    open_at = ENGINES[name].open(rows, mine)
    judged = slice(0, 200)
    for effort in EFFORTS:
        ask = open_at(effort)
        near = ask(queries[judged])
        recall = np.mean([len(set(a) & set(b)) / K for a, b in zip(near.tolist(), true[judged].tolist(), strict=True)])
        if recall >= TARGET:
            break
    ask(queries[:100])
    gc.collect()
    times = []
    for each in queries:
        start = time.process_time()
        ask(each[None])
        times.append(time.process_time() - start)
    start = time.process_time()
    ask(queries)
    batch = (time.process_time() - start) / len(queries)
    return {
        "effort": effort,
        "recall": float(recall),
        "p50": float(np.median(times)),
        "p99": float(np.percentile(times, 99)),
        "batch": batch,
    }


def measured(name: str, part: str, folder: Path, threads: int) -> dict[str, float]:
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--child", name, part, str(folder), "--threads", str(threads)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(count: int, options: argparse.Namespace) -> None:
    """One table of all indices over so many rows."""
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        rows = np.lib.format.open_memmap(folder / "rows.npy", "w+", np.float32, (count, options.dimension))
        classes = max(20, count // 500)
        for number, start in enumerate(range(0, count, BLOCK)):
            size = min(BLOCK, count - start)
            rows[start : start + size] = draw(size, options.dimension, classes=classes, seed=number + 1)
        queries = draw(options.queries, options.dimension, classes=classes, seed=10**6)
        np.save(folder / "queries.npy", queries)
        np.save(folder / "true.npy", truth_of(rows, queries))
        del rows
        print(f"\n{count:,} rows x {options.dimension}, {options.queries} queries; ratios to {REFERENCE} of this run")
        print("| index | Recall@10 | effort | p50 | p99 | batch | build | peak MiB | bytes a row |\n|" + "---|" * 9)
        reference: dict[str, float] = {}
        for each in dict.fromkeys([REFERENCE, *options.only]):
            found = {
                **measured(each, "build", folder, options.threads),
                **measured(each, "search", folder, options.threads),
            }
            reference = reference or found
            ratio = {key: found[key] / reference[key] for key in ("p50", "batch", "seconds")}
            p99 = found["p99"] / reference["p50"]
            print(
                f"| {each} | {found['recall']:.3f} | {found['effort']:.0f} | {ratio['p50']:.2f} | {p99:.2f} | "
                f"{ratio['batch']:.2f} | {ratio['seconds']:.2f} | {found['peak']:.0f} | {found['bytes']:.0f} |",
                flush=True,
            )
            if each == REFERENCE:
                print(
                    f"(the reference: {found['p50'] * 1e3:.3f} ms alone, {found['batch'] * 1e3:.3f} ms in a batch, "
                    f"built in {found['seconds']:.0f} s)",
                    flush=True,
                )


def main() -> None:
    """Print a table for each number of rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000])
    parser.add_argument("--dimension", type=int, default=64)
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where rows and indices lie meanwhile")
    parser.add_argument("--only", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        name, part, folder = options.child
        print(json.dumps(child(name, part, Path(folder), options.threads)))
        return
    for count in options.rows:
        compare(count, options)


if __name__ == "__main__":
    main()
