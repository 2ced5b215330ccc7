"""The figures of one finished cell, from what its stages wrote.

Recalls, accuracies and gate figures are shares between 0 and 1. `after` is the task after whose stage a figure was
taken, `on` the task, the generation, the way to serve or the condition it was taken on.

    recall_own accuracy_own     after, on   test images of one task: own gallery, argmax within its classes
    recall_seen accuracy_seen   after       test images of all tasks seen: one gallery, argmax over all classes
    map_at_r_seen               after       the last task only
    compatibility               after, on   C[t, k] on all test images, each generation embedding them again
    ac am bc fc                             of that matrix
    average plasticity                      of recall_own
    forgetting_{own,seen}_{recall,accuracy}
    gate_self gate_cross gate_adapted  after    old items of the gate: the champion's queries on the stored rows, the
                                                candidate's on the same, and on these rows mapped by the better adapter
    ecc_keep ecc_adapt          after       1 if the candidate finds more there than the champion did, else 0
    ecc_keep_bound ecc_adapt_bound     after    lower bound of that difference
    would_pass_{keep,adapt,merge,partial,backfill}   after    1 if the gate promotes with that way as the only one
                                                              allowed, else 0
    promoted                    after, on   1 for the way that the gate takes of all allowed ones, else 0
    gain gain_bound lost        after, on   change of Recall@1 of all gate queries against the status quo, its lower
                                            bound, and the share of queries that hit today and would miss
    old_change                  after, on   change of Recall@1 of old items
    rows_embedded query_models  after, on   cost: old rows re-embedded, models that embed a query
    stopped                     after, on   1 for each condition that a full backfill fails, of a rejected candidate
    train_images                after       images that the stage learned from
    train_seconds               after       of a stage that ran here and did not come from another cell
"""

from collections.abc import Iterator
from pathlib import Path

from csd_core.comparison.running.timings import Timings
from csd_core.data.shards import RECORD as SHARD
from csd_core.params.model import Params
from csd_core.params.upgrade import Policy, Strategy
from csd_core.records.check import CheckReport
from csd_core.records.stages import ModelRecord, Record, ShardRecord
from csd_core.records.verdict import Promoted, Rejected
from csd_core.report.scores import Metrics
from csd_core.upgrade.gate import judge
from csd_core.upgrade.gate_rules import lower_bound
from csd_core.workspace import Workspace


class Measure(Record):
    """One figure."""

    measure: str
    after: str | None = None
    on: str | None = None
    value: float


class CellMeasures(Record):
    """measures.json."""

    params: str
    """CellParams.digest of what they were measured with."""
    code: str = ""
    """Code.digest of what measured them; empty in results that were put together, and in those of before."""
    values: tuple[Measure, ...]


def measure_cell(root: Path, params: Params, timings: Timings) -> tuple[Measure, ...]:
    """Return every figure of a finished cell.

    Args:
        root: Its folder.
        params: Its parameters.
        timings: Of its stages.

    Raises:
        ArtifactError: if an artefact is missing or damaged.
    """
    files = Workspace(root)
    tasks = tuple(params.tasks)
    return (
        *_tested(Metrics.load(files.metrics)),
        *(each for task in tasks for each in _gated(CheckReport.load(files.check(task)), params.gate)),
        *(each for task in tasks for each in _trained(files, task, timings)),
    )


def taken(after: str | None = None, on: str | None = None, **values: float | None) -> Iterator[Measure]:
    """Yield values by the names of their measures, but for those that there are not."""
    for name, value in values.items():
        if value is not None:
            yield Measure(measure=name, after=after, on=on, value=value)


def _tested(metrics: Metrics) -> Iterator[Measure]:
    for task, state in metrics.tasks.items():
        for on, recall in state.recall_at_1.items():
            yield from taken(task, on, recall_own=recall, accuracy_own=state.accuracy.get(on))
        yield from taken(task, recall_seen=state.all_seen_recall_at_1, accuracy_seen=state.all_seen_accuracy)
    yield from taken(list(metrics.tasks)[-1], map_at_r_seen=metrics.all_seen.map_at_r)
    compatibility, retrieval, classification = metrics.compatibility, metrics.retrieval, metrics.classification
    for query, row in compatibility.cross_tests.items():
        for on, recall in row.items():
            yield from taken(query, on, compatibility=recall)
    yield from taken(
        ac=compatibility.ac,
        am=compatibility.am,
        bc=compatibility.bc,
        fc=compatibility.fc,
        average=retrieval.own.average,
        plasticity=retrieval.own.plasticity,
        forgetting_own_recall=retrieval.own.forgetting,
        forgetting_own_accuracy=classification.own.forgetting,
        forgetting_seen_recall=retrieval.all_seen.forgetting,
        forgetting_seen_accuracy=classification.all_seen.forgetting,
    )


def _gated(report: CheckReport, policy: Policy) -> Iterator[Measure]:
    """Yield what the check of an upgrade says; nothing of a first model."""
    if report.champion is None:
        return
    task, test = report.task, report.cross_test
    if test:
        adapted = test.self_test + test.adapted.difference if test.adapted else None
        yield from taken(task, gate_self=test.self_test, gate_cross=test.cross_test, gate_adapted=adapted)
        # The empirical compatibility criterion (Shen et al., BCT, CVPR 2020).
        for name, pairs in (("ecc_keep", test.paired), ("ecc_adapt", test.adapted)):
            if pairs:
                more = float(pairs.difference > 0)
                yield from taken(task, None, **{name: more, f"{name}_bound": lower_bound(pairs, policy)})
    verdict = judge(report, policy)
    for way in dict.fromkeys(each.strategy for each in report.alternatives):
        alone = judge(report, policy.model_copy(update={"allowed": [way]}))
        yield from taken(task, None, **{f"would_pass_{way}": float(isinstance(alone, Promoted))})
        chosen = isinstance(verdict, Promoted) and verdict.strategy == way
        yield from taken(task, way, promoted=float(chosen))
        yield from _of_way(report, policy, way, verdict if chosen else alone)
    if isinstance(verdict, Rejected):
        failed = (
            each.name
            for judged in verdict.judged
            if judged.strategy == "backfill"
            for each in judged.conditions
            if not each.passed
        )
        for condition in dict.fromkeys(name.partition(":")[0] for name in failed):
            yield from taken(task, condition, stopped=1.0)


def _of_way(report: CheckReport, policy: Policy, way: Strategy, verdict: Promoted | Rejected) -> Iterator[Measure]:
    """Yield what a way to serve brings and costs; of a partial backfill, where one passes, of the share that does."""
    share = verdict.share if isinstance(verdict, Promoted) else None
    for found in report.alternatives:
        if (found.strategy, found.share) == (way, share) and found.measured:
            overall, old = found.against_status_quo["overall"], found.against_status_quo.get("old")
            yield from taken(
                report.task,
                way,
                gain=overall.difference,
                gain_bound=lower_bound(overall, policy),
                lost=overall.lost / overall.queries if overall.queries else None,
                old_change=old.difference if old else None,
                rows_embedded=float(found.rows_embedded),
                query_models=float(found.query_models),
            )


def _trained(files: Workspace, task: str, timings: Timings) -> Iterator[Measure]:
    learned_from = ModelRecord.load(files.candidate_model(task) / "model.json").trained_on
    images = sum(ShardRecord.load(files.shard(name) / SHARD).counts["train"] for name in learned_from)
    spent = timings.stages.get(f"train@{task}")
    seconds = spent.seconds if spent and spent.finished else None
    yield from taken(task, train_images=float(images), train_seconds=seconds)
