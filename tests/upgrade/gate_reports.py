"""Reports of a check and a policy, for the tests of the gate."""

from check_reports import first_model_report

from csd_core.params.upgrade import Policy
from csd_core.records.check import Alternative, CheckReport, Measurement, Paired, Recalls, Rehearsal

POLICY = Policy(
    allowed=["keep", "adapt", "partial", "backfill"],
    confidence=0.95,
    resamples=2000,
    seed=1,
    max_regression=0.02,
    max_task_regression=0.05,
    max_total_regression=0.05,
    min_gain=0.0,
    max_excess_flips=0.05,
    max_map_regression=0.05,
    require_ecc=False,
    min_recall=0.5,
    min_map_at_r=0.4,
)


def pairs(lost=0, gained=0, queries=1000):
    return Paired(queries=queries, lost=lost, gained=gained)


def measurement(recall=0.9, own=0.9, precision=0.8):
    recalls = Recalls(queries=1000, excluded=0, at={1: recall, 5: 0.95, 10: 0.97}, map_at_r=precision)
    return Measurement(overall=recalls, old=recalls, new=recalls, per_task={"t1": recall}, own_gallery={"t1": own})


def alternative(
    strategy="keep", *, share=None, old=None, task=None, overall=None, own=0.9, precision=0.8, why_not=None, rows=0
):
    return Alternative(
        strategy=strategy,
        share=share,
        possible=why_not is None,
        why_not=why_not,
        rows_embedded=rows,
        rows_mapped=0,
        measured=measurement(own=own, precision=precision) if why_not is None else None,
        against_status_quo={}
        if why_not
        else {"overall": overall or pairs(gained=40), "old": old or pairs(), "task:t1": task or old or pairs()},
    )


def report(*alternatives, cross=None, best=None, rehearsed=None):
    return CheckReport(
        task="t2",
        split="gate",
        candidate="c" * 64,
        champion="a" * 64,
        pending=(),
        status_quo=measurement(),
        cross_test=cross,
        alternatives=alternatives or (alternative(), alternative("backfill", rows=5000)),
        rehearsal=None if rehearsed is None else Rehearsal(status_quo=measurement(), alternatives=tuple(rehearsed)),
        partial=None,
        adapter_methods={},
        during_backfill=(),
        best_own_gallery={"t1": 0.9} if best is None else best,
    )


def first_model(recall, precision=0.8):
    return first_model_report(measurement(recall, precision=precision))


def partial(share, **figures):
    return alternative("partial", share=share, **figures)


BAD = {"old": pairs(lost=100)}
FLIPPING = {"overall": pairs(lost=90, gained=200)}


def policy(**changes):
    return POLICY.model_copy(update=changes)


def failed(verdict, strategy):
    judged = next(each for each in verdict.judged if each.strategy == strategy)
    return [condition.name for condition in judged.conditions if not condition.passed]
