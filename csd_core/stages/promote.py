"""Promote a candidate, or carry the champion over: the fold over the tasks."""

if __name__ == "__main__":
    from csd_core.stages.entry import run_stage

    run_stage("promote")

import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt

from csd_core.data.pool import ItemPool
from csd_core.data.shards import load_shard
from csd_core.engine.engines import engine_of
from csd_core.engine.processes import LocalEngine
from csd_core.params.model import Params
from csd_core.records.check import Alternative, CheckReport
from csd_core.records.stages import Champion, Pending, SeenShards
from csd_core.records.verdict import Ledger, LedgerEntry, Promoted, Rejected, VerdictFile, outcome_in_words
from csd_core.retrieval.embedder import Embedder, digest_of
from csd_core.retrieval.gallery import Gallery
from csd_core.retrieval.lineage import Lineage
from csd_core.stages.computing import use_threads
from csd_core.system.atomic import atomic_folder
from csd_core.system.console import echo
from csd_core.upgrade.backfill.engine import backfill
from csd_core.upgrade.backfill.images import ShardFolders
from csd_core.upgrade.gate import judge
from csd_core.upgrade.mapping.adapters import CandidateAdapters
from csd_core.upgrade.measured import embedded
from csd_core.upgrade.situation import Situation
from csd_core.upgrade.strategies import strategy_named
from csd_core.workspace import Workspace

ONE_PROCESS = 20_000
"""Up to so many rows are re-embedded in this process: starting others takes longer than they save."""


def main(task: str) -> None:
    """Write the verdict, and champion, gallery, pending tasks and ledger after the task."""
    workspace = Workspace()
    params = workspace.params()
    previous = params.task(task).previous
    report = CheckReport.load(workspace.check(task))
    verdict = judge(report, params.gate, params.decisions[task])

    champion = _champion(workspace, task, previous, verdict)
    gallery = _gallery(workspace, params, task, previous, verdict, report)
    gallery.save(workspace.gallery(task))
    _lineage(workspace, task, previous, verdict, gallery).save(workspace.lineage(task))
    waiting = Pending.load(workspace.pending(previous)).tasks
    Pending(tasks=() if isinstance(verdict, Promoted) else (*waiting, task)).save(workspace.pending(task))
    ledger = Ledger.load(workspace.ledger(previous))
    entry = LedgerEntry(
        task=task,
        candidate=verdict.candidate,
        outcome=verdict.outcome,
        strategy=verdict.strategy if isinstance(verdict, Promoted) else None,
        share=verdict.share if isinstance(verdict, Promoted) else None,
        champion=champion.digest,
        champion_task=champion.task,
        check=digest_of(workspace.check(task)),
        gallery=gallery.digest,
        served=_served(report, verdict),
    )
    Ledger(entries=(*ledger.entries, entry)).save(workspace.ledger(task))
    VerdictFile(verdict=verdict).save(workspace.verdict(task))

    if isinstance(verdict, Rejected):
        echo(f"{task}: {verdict.message}")
    else:
        echo(f"{task}: {outcome_in_words(verdict)}")
        for reason in verdict.reasons:
            echo(f"  {reason}")
    echo(f"{task}: the gallery has {len(gallery):,} rows")


def _champion(workspace: Workspace, task: str, previous: str, verdict: Promoted | Rejected) -> Champion:
    """Write the champion after the task: the candidate, or the one carried over."""
    before = Champion.load(workspace.champion_embedder(previous) / "champion.json")
    if isinstance(verdict, Rejected):
        _copy(workspace.champion_model(previous), workspace.champion_model(task))
        _copy(workspace.champion_embedder(previous), workspace.champion_embedder(task))
        return before
    metadata = Embedder.load(workspace.candidate_embedder(task), device="cpu").metadata
    champion = Champion(
        task=task,
        digest=verdict.candidate,
        parent=before.digest,
        dimension=metadata.dimension,
        classes=metadata.classes,
    )
    _copy(workspace.candidate_model(task), workspace.champion_model(task))
    with atomic_folder(workspace.champion_embedder(task)) as folder:
        shutil.copyfile(workspace.candidate_embedder(task), folder / "embedder.onnx")
        variant = workspace.candidate_quantized(task) / "embedder.int8.onnx"
        if variant.is_file():  # it is there only if it ships
            shutil.copyfile(variant, folder / variant.name)
        champion.save(folder / "champion.json")
    return champion


def _copy(source: Path, target: Path) -> None:
    with atomic_folder(target) as folder:
        for file in sorted(source.iterdir()):
            shutil.copyfile(file, folder / file.name)


def _gallery(
    workspace: Workspace, params: Params, task: str, previous: str, verdict: Promoted | Rejected, report: CheckReport
) -> Gallery:
    """Return the gallery after the task; no seen item is missing, unless there is no model to embed it."""
    before = Gallery.load(workspace.gallery(previous))
    promoted = isinstance(verdict, Promoted)
    if verdict.champion is None and not promoted:
        return before
    model = workspace.candidate_embedder(task) if promoted else workspace.champion_embedder(previous) / "embedder.onnx"
    device, threads = params.compute.embedding_device, use_threads(params.compute)
    embedder = Embedder.load(model, device=device, threads=threads)
    shard_folders = [workspace.shard(name) for name in SeenShards.load(workspace.seen(task)).tasks]
    pool = ItemPool(shards=[load_shard(folder) for folder in shard_folders], engine=engine_of(params.runtime))
    searchable = pool.rows(*params.gallery.splits)
    new = searchable[~np.isin(pool.ids[searchable], before.ids)]
    added = embedded(pool, new, embedder)
    if isinstance(verdict, Rejected):
        return before.joined(added, query_model=embedder.digest, searchable_spaces=before.searchable_spaces)

    work = workspace.work(f"backfill-{task}", verdict.candidate)

    def embed(ids: npt.NDArray[np.str_]) -> npt.NDArray[np.float32]:
        source = ShardFolders(folders=tuple(shard_folders))
        # the bytes are the same for any engine and number of workers
        engine = engine_of(params.runtime, processes=threads) if len(ids) > ONE_PROCESS else LocalEngine()
        done = backfill(ids, model=model, source=source, folder=work, engine=engine, device=device)
        return np.array(done.complete())

    strategy = strategy_named(
        verdict.strategy,
        share=verdict.share,
        order=report.partial.order if report.partial else None,
        rest=report.partial.rest if report.partial else None,
    )
    situation = Situation.of(
        before, embedder, CandidateAdapters.load(workspace.candidate_adapters(task)), params.upgrade
    )
    chosen = _chosen(report, verdict)
    after = strategy.plan(situation).scored(chosen.scoring).apply(before, embed)
    shutil.rmtree(work, ignore_errors=True)
    return after.joined(added, query_model=embedder.digest, searchable_spaces=after.searchable_spaces)


def _lineage(workspace: Workspace, task: str, previous: str, verdict: Promoted | Rejected, gallery: Gallery) -> Lineage:
    """Return the models and adapters that the gallery's rows need from now on, and the champion."""
    known = Lineage.load(workspace.lineage(previous))
    if isinstance(verdict, Rejected):
        return known
    adapters = CandidateAdapters.load(workspace.candidate_adapters(task)).paths()
    everything = known.extended(models=[workspace.candidate_embedder(task)], adapters=adapters)
    return everything.needed_by(gallery.groups(), query_models=gallery.query_models)


def _chosen(report: CheckReport, verdict: Promoted) -> Alternative:
    """Return what was measured of the way to serve that the verdict chose."""
    return next(
        each for each in report.alternatives if (each.strategy, each.share) == (verdict.strategy, verdict.share)
    )


def _served(report: CheckReport, verdict: Promoted | Rejected) -> dict[str, float]:
    """Task -> Recall@1 on its own gallery as served from now on."""
    if isinstance(verdict, Promoted):
        chosen = _chosen(report, verdict)
        return chosen.measured.own_gallery if chosen.measured else {}
    return report.status_quo.own_gallery if report.status_quo else {}
