"""What the promoted upgrades of a finished cell do to queries that no choice was made on: those of `test`.

test_queries test_lost test_gained   after   queries, those that hit before the upgrade and miss after it, and the
                                             reverse, at top 1 over the whole gallery that would be served
test_bound                           after   upper bound of the change of Recall@1
"""

from collections.abc import Iterator
from pathlib import Path

from csd_core.comparison.results.measures import Measure, taken
from csd_core.data.pool import ItemPool
from csd_core.data.shards import load_shard
from csd_core.params.model import Params
from csd_core.records.check import CheckReport, Paired
from csd_core.records.stages import SeenShards
from csd_core.records.verdict import Promoted
from csd_core.retrieval.embedder import Embedder
from csd_core.retrieval.gallery import Gallery
from csd_core.retrieval.lineage import Lineage
from csd_core.upgrade.compatibility import flips_under
from csd_core.upgrade.gate import judge
from csd_core.upgrade.gate_rules import lower_bound
from csd_core.upgrade.mapping.adapters import CandidateAdapters
from csd_core.upgrade.measured import evaluation_data_of
from csd_core.upgrade.situation import Situation
from csd_core.upgrade.strategies import strategy_named
from csd_core.workspace import Workspace


def ask_test_queries(root: Path, params: Params) -> Iterator[Measure]:
    """Yield the figures of every upgrade that the gate promotes, under the way that it takes.

    Args:
        root: Folder of a cell, whose candidates were all promoted by a full backfill.
        params: Its parameters.

    Raises:
        ArtifactError: if an artefact is missing or damaged.
    """
    files = Workspace(root)
    for task in params.tasks:
        report = CheckReport.load(files.check(task))
        verdict = judge(report, params.gate)
        if report.champion is not None and isinstance(verdict, Promoted):
            pairs = _compare(files, params, report, verdict)
            reverse = pairs.model_copy(update={"lost": pairs.gained, "gained": pairs.lost})
            yield from taken(
                task,
                test_queries=float(pairs.queries),
                test_lost=float(pairs.lost),
                test_gained=float(pairs.gained),
                test_bound=-lower_bound(reverse, params.gate),
            )


def _compare(files: Workspace, params: Params, report: CheckReport, verdict: Promoted) -> Paired:
    """Ask the galleries that would be served without and with an upgrade."""
    task, previous = report.task, params.task(report.task).previous
    device, threads = params.compute.embedding_device, params.compute.threads
    gallery, models = Gallery.load(files.gallery(previous)), Lineage.load(files.lineage(previous)).models
    candidate = Embedder.load(files.candidate_embedder(task), device=device, threads=threads)
    items = evaluation_data_of(
        ItemPool(shards=[load_shard(files.shard(name)) for name in SeenShards.load(files.seen(task)).tasks]),
        gallery,
        params.gallery.splits,
        candidate=candidate,
        active={
            digest: Embedder.load(models[digest], device=device, threads=threads) for digest in gallery.query_models
        },
        may_ask=["test"],
    ).asked_by("test")
    strategy = strategy_named(
        verdict.strategy,
        share=verdict.share,
        order=report.partial.order if report.partial else None,
        rest=report.partial.rest if report.partial else None,
    )
    adapters = CandidateAdapters.load(files.candidate_adapters(task))
    plan = strategy.plan(Situation.of(gallery, candidate, adapters, params.upgrade))
    taken_way = next(each for each in report.alternatives if each.way == (verdict.strategy, verdict.share))
    return flips_under(items, plan.scored(taken_way.scoring))
