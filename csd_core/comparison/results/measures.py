"""The figures of one finished cell, from what its stages wrote.

Recalls, accuracies and gate figures are shares between 0 and 1. `after` is the task after whose stage a figure was
taken, `on` the task, or the generation, it was taken on.

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
    would_pass_{keep,adapt,backfill}   after    1 if the gate's conditions on that strategy are met, else 0
    train_images                after       images that the stage learned from
    train_seconds               after       of a stage that ran here and did not come from another cell
"""

from collections.abc import Iterator
from pathlib import Path

from csd_core.comparison.running.timings import Timings
from csd_core.data.shards import RECORD as SHARD
from csd_core.params.model import Params
from csd_core.params.upgrade import Policy
from csd_core.records.check import CheckReport, CrossTest, Paired
from csd_core.records.stages import ModelRecord, Record, ShardRecord
from csd_core.report.scores import Metrics
from csd_core.upgrade.gate import assess
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


def _tested(metrics: Metrics) -> Iterator[Measure]:
    for task, state in metrics.tasks.items():
        for name, values in (("recall_own", state.recall_at_1), ("accuracy_own", state.accuracy)):
            yield from (Measure(measure=name, after=task, on=on, value=value) for on, value in values.items())
        yield from _known("recall_seen", state.all_seen_recall_at_1, after=task)
        yield from _known("accuracy_seen", state.all_seen_accuracy, after=task)
    yield from _known("map_at_r_seen", metrics.all_seen.map_at_r, after=list(metrics.tasks)[-1])
    compatibility = metrics.compatibility
    for query, row in compatibility.cross_tests.items():
        yield from (Measure(measure="compatibility", after=query, on=on, value=value) for on, value in row.items())
    for name in ("ac", "am", "bc", "fc"):
        yield from _known(name, getattr(compatibility, name))
    yield from _known("average", metrics.retrieval.own.average)
    yield from _known("plasticity", metrics.retrieval.own.plasticity)
    yield from _known("forgetting_own_recall", metrics.retrieval.own.forgetting)
    yield from _known("forgetting_own_accuracy", metrics.classification.own.forgetting)
    yield from _known("forgetting_seen_recall", metrics.retrieval.all_seen.forgetting)
    yield from _known("forgetting_seen_accuracy", metrics.classification.all_seen.forgetting)


def _known(name: str, value: float | None, *, after: str | None = None) -> Iterator[Measure]:
    if value is not None:
        yield Measure(measure=name, after=after, value=value)


def _gated(report: CheckReport, policy: Policy) -> Iterator[Measure]:
    """Yield what the check of an upgrade says; nothing of a first model."""
    if report.champion is None:
        return
    if report.cross_test:
        yield from _crossed(report.cross_test, report.task, policy)
    for judged in assess(report, policy):
        if judged.strategy in ("keep", "adapt", "backfill"):
            yield Measure(measure=f"would_pass_{judged.strategy}", after=report.task, value=float(judged.passed))


def _crossed(test: CrossTest, task: str, policy: Policy) -> Iterator[Measure]:
    yield Measure(measure="gate_self", after=task, value=test.self_test)
    yield Measure(measure="gate_cross", after=task, value=test.cross_test)
    yield from _criterion("keep", test.paired, task, policy)
    if test.adapted:
        yield Measure(measure="gate_adapted", after=task, value=test.self_test + test.adapted.difference)
        yield from _criterion("adapt", test.adapted, task, policy)


def _criterion(strategy: str, pairs: Paired, task: str, policy: Policy) -> Iterator[Measure]:
    """Yield the empirical compatibility criterion (Shen et al., BCT, CVPR 2020)."""
    yield Measure(measure=f"ecc_{strategy}", after=task, value=float(pairs.difference > 0))
    yield Measure(measure=f"ecc_{strategy}_bound", after=task, value=lower_bound(pairs, policy))


def _trained(files: Workspace, task: str, timings: Timings) -> Iterator[Measure]:
    learned_from = ModelRecord.load(files.candidate_model(task) / "model.json").trained_on
    images = sum(ShardRecord.load(files.shard(name) / SHARD).counts["train"] for name in learned_from)
    yield Measure(measure="train_images", after=task, value=float(images))
    spent = timings.stages.get(f"train@{task}")
    if spent and spent.finished:
        yield Measure(measure="train_seconds", after=task, value=spent.seconds)
