"""The gate's time: every way to serve a candidate, 10,000 queries on 100,000 rows, and how it grows with the rows.

Run: python benchmarks/gate.py

The reference is one exact search of the same queries over the same rows by faiss (IndexFlatIP, k = 1) in the same run.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import faiss
import numpy as np

from csd_core.params.upgrade import AdapterParams, Partial, Policy, Upgrade
from csd_core.retrieval.gallery import Gallery
from csd_core.retrieval.lineage import Lineage
from csd_core.upgrade.adaptation import Lessons, fit_adapters
from csd_core.upgrade.adapters import CandidateAdapters
from csd_core.upgrade.check import check
from csd_core.upgrade.evaluation_data import EvaluationData
from csd_core.upgrade.gate import judge
from csd_core.upgrade.strategies import Situation

if TYPE_CHECKING:
    from csd_core.records.check import CheckReport

DIMENSION, CLASSES, NEW = 64, 1000, 0.1
SETTINGS = Upgrade(
    seed=1,
    max_query_models=2,
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
POLICY = Policy(
    allowed=["keep", "adapt", "merge", "partial", "backfill"],
    confidence=0.95,
    resamples=10_000,
    seed=1,
    max_regression=0.02,
    max_task_regression=0.03,
    max_total_regression=0.05,
    min_gain=0.0,
    max_excess_flips=0.08,
    max_map_regression=0.05,
    require_ecc=False,
    min_recall=0.8,
    min_map_at_r=0.0,
)


def unit(values: np.ndarray) -> np.ndarray:
    """Rows of length 1."""
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


class Data:
    """Rows that are served, embedded by a champion and a candidate that has drifted from it."""

    def __init__(self, rows: int) -> None:
        rng = np.random.default_rng(1)
        self.labels = rng.integers(0, CLASSES, rows)
        centres = rng.standard_normal((CLASSES, DIMENSION), np.float32)
        drift = np.linalg.qr(rng.standard_normal((DIMENSION, DIMENSION)))[0].astype(np.float32)
        noise = rng.standard_normal((rows, DIMENSION), np.float32)
        self.champion = unit(centres[self.labels] + 0.9 * noise)
        self.candidate = unit(self.champion @ drift + 0.05 * rng.standard_normal(noise.shape, np.float32))
        self.old = self.labels >= NEW * CLASSES
        self.splits = np.where(np.arange(rows) % 2, "select", "gate")
        kept = np.flatnonzero(self.old)
        self.gallery = Gallery.embedded(
            ids=np.array([f"{number:08}" for number in range(rows)])[kept],
            labels=self.labels[kept].astype(np.str_),
            tasks=np.full(len(kept), "t1"),
            splits=self.splits[kept],
            vectors=self.champion[kept],
            model="champion",
        )

    def asked_by(self, split: str, queries: int) -> EvaluationData:
        """All rows, of which some of a split ask."""
        mine = np.flatnonzero(self.splits == split)
        return EvaluationData(
            labels=self.labels.astype(np.str_),
            tasks=np.where(self.old, "t1", "t2"),
            splits=self.splits,
            old=self.old,
            stored=self.gallery,
            positions=np.arange(len(self.gallery)),
            active={"champion": self.champion},
            model="candidate",
            candidate=self.candidate,
            asked=mine[np.linspace(0, len(mine) - 1, min(queries, len(mine))).astype(np.intp)],
        )


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measure(rows: int, queries: int, scratch: Path) -> tuple[float, float, float]:
    """Seconds of the whole check, of one faiss search, and of the verdict."""
    data = Data(rows)
    gate, select = data.asked_by("gate", queries), data.asked_by("select", queries // 4)
    embedded = {"champion": data.champion[:5000], "candidate": data.candidate[:5000]}

    class Retained(Lineage):
        def embed_as(self, provenance, **_):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN003, ANN202
            return provenance.embedded_by

    fit_adapters(
        scratch / "adapters",
        gallery=data.gallery,
        lineage=Retained(models={}, adapters={}),
        candidate="candidate",  # type: ignore[arg-type]
        digest="candidate",
        lessons=Lessons(train=embedded.__getitem__, held_out=embedded.__getitem__, select=select),  # type: ignore[arg-type]
        settings=SETTINGS.adapter,
        seed=1,
    )
    situation = Situation(
        gallery=data.gallery,
        candidate="candidate",
        dimension=DIMENSION,
        adapters=CandidateAdapters.load(scratch / "adapters"),
        settings=SETTINGS,
    )
    reports: list[CheckReport] = []

    def whole() -> None:
        reports.append(
            check(
                "t2",
                gate=gate,
                select=select,
                situation=situation,
                champion="champion",
                pending=(),
                best_own_gallery={},
            )
        )

    def by_faiss() -> None:
        index = faiss.IndexFlatIP(DIMENSION)
        index.add(gate.candidate)
        index.search(gate.candidate[gate.asked], 2)

    took = seconds(whole)
    verdict = seconds(lambda: judge(reports[0], POLICY))
    return took, seconds(by_faiss), verdict


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=10_000)
    arguments = parser.parse_args()
    found = {}
    with TemporaryDirectory() as folder:
        for rows in (arguments.rows // 10, arguments.rows):
            whole, reference, verdict = found[rows] = measure(rows, min(arguments.queries, rows), Path(folder))
            print(
                f"{min(arguments.queries, rows):,} queries on {rows:,} rows of {DIMENSION} dimensions: the check "
                f"{whole:.1f} s = {whole / reference:.1f} x one exact search by faiss ({reference:.2f} s); "
                f"the verdict {1000 * verdict:.0f} ms"
            )
    few, many = found[arguments.rows // 10], found[arguments.rows]
    print(f"ten times the rows: the check takes {many[0] / few[0]:.1f} x, one search {many[1] / few[1]:.1f} x")


if __name__ == "__main__":
    main()
