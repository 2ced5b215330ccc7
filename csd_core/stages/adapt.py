"""Fit the candidate's adapters: for each provenance in the previous gallery, a map into the candidate's space."""

if __name__ == "__main__":
    from csd_core.stages.entry import run_stage

    run_stage("adapt")

import numpy as np

from csd_core.data.pool import ItemPool
from csd_core.data.shards import load_shard
from csd_core.engine.engines import engine_of
from csd_core.records.adapters import AdapterFits
from csd_core.records.stages import ModelRecord, SeenShards
from csd_core.retrieval.embedder import Embedder
from csd_core.retrieval.gallery import Gallery
from csd_core.retrieval.lineage import Lineage
from csd_core.stages.computing import use_threads
from csd_core.system.atomic import atomic_folder
from csd_core.system.console import echo
from csd_core.upgrade.mapping.adaptation import Lessons, fit_adapters
from csd_core.upgrade.mapping.adapters import RECORD
from csd_core.upgrade.measured import evaluation_data_of
from csd_core.upgrade.sampling import evenly
from csd_core.workspace import Workspace


def main(task: str) -> None:
    """Write artifacts/<task>/candidate/adapters/."""
    workspace = Workspace()
    params = workspace.params()
    previous = params.task(task).previous
    device, threads = params.compute.embedding_device, use_threads(params.compute)
    candidate = Embedder.load(workspace.candidate_embedder(task), device=device, threads=threads)
    gallery = Gallery.load(workspace.gallery(previous))
    if not len(gallery):
        why_not = "there is no gallery to map"
        with atomic_folder(workspace.candidate_adapters(task)) as folder:
            AdapterFits(fits=(), why_not=why_not).save(folder / RECORD)
        echo(f"{task}: no adapter: {why_not}")
        return
    shards = {name: load_shard(workspace.shard(name)) for name in SeenShards.load(workspace.seen(task)).tasks}
    pool = ItemPool(shards=list(shards.values()), engine=engine_of(params.runtime))
    model = ModelRecord.load(workspace.candidate_model(task) / "model.json")
    learned = np.isin(pool.tasks, model.trained_on)
    train, held_out = (np.flatnonzero(learned & (pool.splits == split)) for split in ("train", "select"))
    train = np.concatenate([train, pool.positions(np.array(model.remembered, np.str_))])
    train = train[evenly(len(train), params.upgrade.adapter.max_images)]
    record = fit_adapters(
        workspace.candidate_adapters(task),
        gallery=gallery,
        lineage=Lineage.load(workspace.lineage(previous)),
        candidate=candidate,
        digest=candidate.digest,
        lessons=Lessons(
            train=lambda embed: pool.embed(train, embed),
            held_out=lambda embed: pool.embed(held_out, embed),
            select=evaluation_data_of(pool, gallery, params.gallery.splits, candidate=candidate, active={}).asked_by(
                "select"
            ),
        ),
        settings=params.upgrade.adapter,
        seed=params.upgrade.seed,
        device=device,
        threads=threads,
    )
    for fit in record.fits:
        offers = "; ".join(
            f"{offer.method}{' (chosen)' if offer.digest == fit.chosen else ''}: cosine {offer.select_cosine:.3f}"
            + ("" if offer.select_recall is None else f", Recall@1 on select {offer.select_recall:.2%}")
            for offer in fit.kept
        )
        echo(f"{task}: adapter for the rows of {fit.embedded_by[:12]} on {fit.images:,} images; {offers}")
