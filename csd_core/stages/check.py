"""Check a candidate against the previous gallery's stored rows: what would promoting it do to search?"""

if __name__ == "__main__":
    from csd_core.stages.entry import run_stage

    run_stage("check")

from csd_core.data.pool import ItemPool
from csd_core.data.shards import load_shard
from csd_core.engine.engines import engine_of
from csd_core.records.stages import Champion, Pending, SeenShards
from csd_core.records.verdict import Ledger
from csd_core.report.advice.checked import warnings_of
from csd_core.retrieval.embedder import Embedder
from csd_core.retrieval.gallery import Gallery
from csd_core.retrieval.lineage import Lineage
from csd_core.stages.computing import use_threads
from csd_core.system.console import echo
from csd_core.upgrade.check import check
from csd_core.upgrade.gate_rules import points
from csd_core.upgrade.mapping.adapters import CandidateAdapters
from csd_core.upgrade.measured import evaluation_data_of
from csd_core.upgrade.situation import Situation
from csd_core.workspace import Workspace


def main(task: str) -> None:
    """Write artifacts/<task>/check.json."""
    workspace = Workspace()
    params = workspace.params()
    previous = params.task(task).previous
    device, threads = params.compute.embedding_device, use_threads(params.compute)
    embedder = Embedder.load(workspace.candidate_embedder(task), device=device, threads=threads)
    champion = Champion.load(workspace.champion_embedder(previous) / "champion.json")
    lineage = Lineage.load(workspace.lineage(previous))
    pool = ItemPool(
        shards=[load_shard(workspace.shard(name)) for name in SeenShards.load(workspace.seen(task)).tasks],
        engine=engine_of(params.runtime),
    )
    gallery = Gallery.load(workspace.gallery(previous))

    gate = evaluation_data_of(
        pool,
        gallery,
        params.gallery.splits,
        candidate=embedder,
        active={
            digest: Embedder.load(lineage.models[digest], device=device, threads=threads)
            for digest in gallery.query_models
        },
    )
    report = check(
        task,
        gate=gate,
        select=gate.asked_by("select"),
        situation=Situation.of(
            gallery, embedder, CandidateAdapters.load(workspace.candidate_adapters(task)), params.upgrade
        ),
        champion=champion.digest,
        pending=Pending.load(workspace.pending(previous)).tasks,
        best_own_gallery=Ledger.load(workspace.ledger(previous)).best_own_gallery,
    )
    report.save(workspace.check(task))

    if report.sampled_of:
        echo(f"{task}: {params.upgrade.max_queries} of {report.sampled_of} gate queries ask (upgrade.max_queries)")
    if report.status_quo:
        echo(f"{task}: status quo Recall@1 {points(report.status_quo.overall.at[1])}")
    for alternative in report.alternatives:
        if alternative.measured:
            echo(f"{task}: {alternative.name} Recall@1 {points(alternative.measured.overall.at[1])}")
    for warning in warnings_of(report):
        echo(f"{task}: {warning}")
