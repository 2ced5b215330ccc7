"""What the gate costs: every way to serve a candidate, 10,000 queries on 100,000 rows, and how it grows with the rows.

Run: python benchmarks/gate.py [--rows 100000] [--queries 10000] [--select-queries 2500] [--max-queries 2000]
    [--dimension 128] [--noise 0.9] [--threads 1]

With `--max-queries` at most so many queries of each split ask, as `upgrade.max_queries` has it, and the width of the
interval of what a backfill gains is printed.
The reference is one exact search of the same queries over the same rows by faiss (IndexFlatIP, the two nearest, for one
is the query's own row) in the same run, with as many threads. With one thread the ratio is one of processor seconds,
which other work on the machine hardly moves. Memory is what the check holds at most beyond what it was given.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import faiss
import numpy as np
from threadpoolctl import threadpool_limits

from csd_core.params.upgrade import AdapterParams, Partial, Upgrade
from csd_core.retrieval.gallery import Gallery
from csd_core.retrieval.lineage import Lineage
from csd_core.upgrade.check import check
from csd_core.upgrade.evaluation_data import EvaluationData
from csd_core.upgrade.gate import judge
from csd_core.upgrade.mapping.adaptation import Lessons, fit_adapters
from csd_core.upgrade.mapping.adapters import CandidateAdapters
from csd_core.upgrade.policy_file import DEFAULT, load_policy
from csd_core.upgrade.sampling import evenly
from csd_core.upgrade.search.outcomes import with_fewer_queries
from csd_core.upgrade.situation import Situation

if TYPE_CHECKING:
    from csd_core.records.check import CheckReport

CLASSES, NEW = 1000, 0.1
CHAMPION, CANDIDATE = 64 * "a", 64 * "b"
SETTINGS = Upgrade(
    seed=1,
    max_query_models=2,
    max_queries=None,
    adapter=AdapterParams(
        max_images=5000,
        ridge=[1e-4],
        cca=[64],
        orthogonal=[],
        drift=[0.1],
        drift_anchors=2000,
        mlp_width=128,
        mlp_epochs=5,
        mlp_lr=1e-3,
    ),
    partial=Partial(shares=[0.1, 0.25, 0.5, 0.75], orders=["random", "class", "class-mean", "residual"], rest="adapt"),
)
POLICY = load_policy(DEFAULT)[0]


def unit(values: np.ndarray) -> np.ndarray:
    """Rows of length 1."""
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


class Data:
    """Rows that are served, embedded by a champion and a candidate that has drifted from it."""

    def __init__(self, rows: int, dimension: int, noise: float) -> None:
        rng = np.random.default_rng(1)
        self.labels = rng.integers(0, CLASSES, rows)
        centres = rng.standard_normal((CLASSES, dimension), np.float32)
        drift = np.linalg.qr(rng.standard_normal((dimension, dimension)))[0].astype(np.float32)
        apart = noise * rng.standard_normal((rows, dimension), np.float32)
        self.champion = unit(centres[self.labels] + apart)
        self.candidate = unit(self.champion @ drift + 0.05 * rng.standard_normal(apart.shape, np.float32))
        self.old = self.labels >= NEW * CLASSES
        self.splits = np.where(np.arange(rows) % 2, "select", "gate")
        kept, ids = np.flatnonzero(self.old), np.array([f"{number:08}" for number in range(rows)])
        self.gallery = Gallery.embedded(
            ids=ids[kept],
            labels=self.labels[kept].astype(np.str_),
            tasks=np.full(len(kept), "t1"),
            splits=self.splits[kept],
            vectors=self.champion[kept],
            model=CHAMPION,
        )

        self.evaluation = EvaluationData(
            labels=self.labels.astype(np.str_),
            tasks=np.where(self.old, "t1", "t2"),
            splits=self.splits,
            old=self.old,
            stored=self.gallery,
            positions=np.arange(len(self.gallery)),
            active={CHAMPION: self.champion},
            model=CANDIDATE,
            candidate=self.candidate,
            asked=np.arange(rows),
            ids=ids,
        )

    def asked_by(self, split: str, queries: int) -> EvaluationData:
        """All rows, of which some of a split ask."""
        mine = np.flatnonzero(self.splits == split)
        return self.evaluation.asking(mine[evenly(len(mine), queries)])


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds on the clock, and of processors."""
    started, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - started, time.process_time() - processor


def held(name: str) -> int:
    """Memory of this process in KiB: VmRSS now, VmHWM at most since the last reset; on Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def measure(rows: int, arguments: argparse.Namespace, scratch: Path) -> dict[str, tuple[float, float]]:
    """Seconds of one faiss search, of the whole check, and of the verdict."""
    dimension, most = arguments.dimension, arguments.max_queries
    data = Data(rows, dimension, arguments.noise)
    gate, select = data.asked_by("gate", arguments.queries), data.asked_by("select", arguments.select_queries)
    embedded = {CHAMPION: data.champion[:5000], CANDIDATE: data.candidate[:5000]}

    class Retained(Lineage):
        def embed_as(self, provenance, **_):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN003, ANN202
            return provenance.embedded_by

    fit_adapters(
        scratch / "adapters",
        gallery=data.gallery,
        lineage=Retained(models={}, adapters={}),
        candidate=CANDIDATE,  # type: ignore[arg-type]
        digest=CANDIDATE,
        lessons=Lessons(train=embedded.__getitem__, held_out=embedded.__getitem__, select=data.asked_by("select", 500)),  # type: ignore[arg-type]
        settings=SETTINGS.adapter,
        seed=1,
    )
    situation = Situation(
        gallery=data.gallery,
        candidate=CANDIDATE,
        dimension=dimension,
        adapters=CandidateAdapters.load(scratch / "adapters"),
        settings=SETTINGS.model_copy(update={"max_queries": most}),
    )
    reports: list[CheckReport] = []

    def whole() -> None:
        reports.append(
            check(
                "t2",
                gate=gate,
                select=select,
                situation=situation,
                champion=CHAMPION,
                pending=(),
                best_own_gallery={},
            )
        )

    asked = with_fewer_queries(gate, most).asked if most else gate.asked

    def by_faiss() -> None:
        index = faiss.IndexFlatIP(dimension)
        index.add(gate.candidate)
        index.search(gate.candidate[asked], 2)

    found = {"faiss": min(seconds(by_faiss) for _ in range(3))}
    before = held("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins again
    found["check"] = seconds(whole)
    peak = held("VmHWM")
    found["verdict"] = seconds(lambda: judge(reports[0], POLICY))
    (clock, processor), (clock_of_one, processor_of_one) = found["check"], found["faiss"]
    gain = next(each for each in reports[0].alternatives if each.strategy == "backfill").against_status_quo["overall"]
    spread = ((gain.lost + gain.gained) / gain.queries - gain.difference**2) ** 0.5
    chosen = min(len(select.asked), most or len(select.asked))
    print(
        f"{len(asked):,} gate and {chosen:,} select queries, {rows:,} rows of {dimension} dimensions:\n"
        f"  the check {processor:.1f} s of a processor, {processor / processor_of_one:.1f} x one search by faiss "
        f"({processor_of_one:.2f} s), {(peak - before) / 2**10:.0f} MiB\n"
        f"  on the clock {clock:.1f} s, {clock / clock_of_one:.1f} x ({clock_of_one:.2f} s); the verdict "
        f"{1000 * found['verdict'][0]:.0f} ms\n"
        f"  a backfill gains {100 * gain.difference:.2f} points, +- {196 * spread / gain.queries**0.5:.2f} (95 %)",
        flush=True,
    )
    return found


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--select-queries", type=int, default=2500)
    parser.add_argument("--max-queries", type=int, default=None)
    parser.add_argument("--dimension", type=int, default=128)
    parser.add_argument("--noise", type=float, default=0.9, help="of a row about its class")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    faiss.omp_set_num_threads(arguments.threads)
    with TemporaryDirectory() as folder, threadpool_limits(arguments.threads):
        found = [measure(rows, arguments, Path(folder)) for rows in arguments.rows]
    for few, many, times in zip(found, found[1:], np.divide(arguments.rows[1:], arguments.rows[:-1]), strict=False):
        print(
            f"{times:g} times the rows: the check takes {many['check'][1] / few['check'][1]:.1f} x, one search "
            f"{many['faiss'][1] / few['faiss'][1]:.1f} x"
        )


if __name__ == "__main__":
    main()
