"""Check a candidate against the previous gallery's stored rows: what would promoting it do to search?"""

from typing import Literal

import numpy as np

from csd_core.console import say
from csd_core.data.pool import ItemPool
from csd_core.data.shards import load_shard
from csd_core.records import Champion, CheckReport, Ledger, Pending, SeenShards
from csd_core.release.compatibility import compare
from csd_core.release.evidence import Evidence
from csd_core.release.gate import points
from csd_core.release.strategies import STRATEGIES
from csd_core.retrieval.embedder import Embedder
from csd_core.retrieval.gallery import Gallery
from csd_core.stages.entry import run_stage
from csd_core.workspace import Workspace

SPLIT: Literal["gate"] = "gate"
"""The role whose items judge a candidate, once."""


def main(task: str) -> None:
    """Write artifacts/<task>/check.json."""
    files = Workspace()
    params = files.params()
    previous = params.task(task).previous
    embedder = Embedder.load(
        files.candidate_embedder(task), device=params.runtime.device, threads=params.runtime.threads
    )
    champion = Champion.load(files.champion_embedder(previous) / "champion.json")
    incumbent = (
        Embedder.load(
            files.champion_embedder(previous) / "embedder.onnx",
            device=params.runtime.device,
            threads=params.runtime.threads,
        )
        if champion.digest
        else None
    )
    pool = ItemPool(shards=[load_shard(files.shard(name)) for name in SeenShards.load(files.seen(task)).tasks])
    gallery = Gallery.load(files.gallery(previous))

    evidence = gather(pool, gallery, candidate=embedder, champion=incumbent)
    status_quo, cross_test, alternatives = compare(evidence, STRATEGIES, gallery_rows=len(gallery))
    CheckReport(
        task=task,
        split=SPLIT,
        candidate=embedder.digest,
        champion=champion.digest,
        pending=Pending.load(files.pending(previous)).tasks,
        status_quo=status_quo,
        cross_test=cross_test,
        alternatives=alternatives,
        best_own_gallery=Ledger.load(files.ledger(previous)).best_own_gallery,
    ).save(files.check(task))

    if status_quo:
        say(f"{task}: status quo Recall@1 {points(status_quo.overall.at[1])}")
    for alternative in alternatives:
        if alternative.measured:
            say(f"{task}: {alternative.strategy} Recall@1 {points(alternative.measured.overall.at[1])}")


def gather(pool: ItemPool, gallery: Gallery, *, candidate: Embedder, champion: Embedder | None) -> Evidence:
    """Embed the gate's items by both models, and find the stored rows of the old ones."""
    measured = pool.rows(SPLIT)
    stored = np.flatnonzero(gallery.splits == SPLIT)
    by_id = np.argsort(gallery.ids[stored], kind="stable")
    ids = pool.ids[measured]
    old = np.isin(ids, gallery.ids[stored])
    rows = stored[by_id[np.searchsorted(gallery.ids[stored], ids[old], sorter=by_id)]]
    return Evidence(
        labels=pool.labels[measured],
        tasks=pool.tasks[measured],
        old=old,
        stored=gallery.vectors[rows],
        champion=pool.embed(measured, champion) if champion else None,
        candidate=pool.embed(measured, candidate),
    )


if __name__ == "__main__":
    run_stage(main)
