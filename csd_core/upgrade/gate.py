"""The verdict on a candidate: a pure function of the check's report, the policy and an operator's decision.

The gate takes the cheapest allowed strategy that meets every condition.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from csd_core.params.upgrade import Decision, Policy, Strategy
from csd_core.records.check import Alternative, CheckReport
from csd_core.records.verdict import Condition, Judged, Promoted, Rejected, decided_by_operator
from csd_core.system.errors import CompatibilityError
from csd_core.upgrade.gate_rules import against_status_quo, of_first_model, of_upgrade


def assess(report: CheckReport, policy: Policy) -> tuple[Judged, ...]:
    """Return every strategy with the outcome of every condition, cheapest first.

    Of a partial backfill the smallest share that meets the policy on `select` is judged, so that the gate's queries
    judge a choice and do not make it. Only where it fails is the next share that passes on `select` judged too:
    otherwise a wider limit could choose a smaller share, see it fail, and end at a costlier strategy or none.
    """
    judged: list[Judged] = []
    partial = _shares_to_judge(report, policy)
    unreachable = out_of_reach(report, policy)
    done = False
    for alternative in report.alternatives:
        if alternative.strategy != "partial":
            judged.append(_judged(report, alternative, policy, unreachable))
        elif alternative.share in partial.chosen and not done:
            judged.append(_judged(report, alternative, policy, unreachable))
            done = judged[-1].passed or judged[-1].why_not is not None
        elif not partial.chosen and alternative is partial.largest:
            judged.append(_refused(alternative, partial.why_not))
    return tuple(judged)


def out_of_reach(report: CheckReport, policy: Policy) -> frozenset[str]:
    """Names of the conditions that every measured way fails, a full backfill too, and that no more queries would turn.

    Ways count that the policy does not allow: the candidate itself cannot do it.
    """
    measured = [each for each in report.alternatives if each.measured and each.strategy != "none"]
    if not any(each.strategy == "backfill" for each in measured):
        return frozenset()
    lost = [
        {each.name for each in of_upgrade(report, way, policy) if not each.passed and not each.needs_queries}
        for way in measured
    ]
    return frozenset(set.intersection(*lost))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shares:
    """Which partial backfills are judged.

    Attributes:
        chosen: Shares that pass on `select`, ascending.
        largest: The alternative with the largest share; None where none is offered.
        why_not: Why none was chosen.
    """

    chosen: tuple[float | None, ...] = ()
    largest: Alternative | None
    why_not: str = ""


def _shares_to_judge(report: CheckReport, policy: Policy) -> _Shares:
    on_gate = [each for each in report.alternatives if each.strategy == "partial"]
    largest = on_gate[-1] if on_gate else None
    if largest and largest.why_not:
        return _Shares(largest=largest, why_not=largest.why_not)
    if report.rehearsal is None:
        return _Shares(largest=largest, why_not="there was no rehearsal on select to choose the share by")
    chosen, last = [], ""
    for rehearsed in report.rehearsal.alternatives:
        conditions = against_status_quo(rehearsed, policy, status_quo=report.rehearsal.status_quo, rehearsed=True)
        failed = next((each for each in conditions if not each.passed), None)
        if failed:
            last = f"{rehearsed.name}: {failed.words}"
        else:
            chosen.append(rehearsed.share)
    return _Shares(chosen=tuple(chosen), largest=largest, why_not=f"no share passes on select; {last}")


def _judged(report: CheckReport, alternative: Alternative, policy: Policy, unreachable: frozenset[str]) -> Judged:
    if alternative.why_not:
        return _refused(alternative, alternative.why_not)
    first = alternative.strategy == "none"
    met = of_first_model(alternative, policy) if first else of_upgrade(report, alternative, policy)
    conditions = tuple(_marked(each) if each.name in unreachable else each for each in met)
    allowed = first or alternative.strategy in policy.allowed
    return Judged(
        strategy=alternative.strategy,
        share=alternative.share,
        passed=allowed and all(condition.passed for condition in conditions),
        conditions=conditions,
        why_not=None if allowed else "not in gate.allowed",
    )


def _marked(condition: Condition) -> Condition:
    words = f"{condition.words}: out of reach even by backfill"
    return condition.model_copy(update={"out_of_reach": True, "words": words})


def _refused(alternative: Alternative, why_not: str) -> Judged:
    return Judged(
        strategy=alternative.strategy,
        share=None if alternative.strategy == "partial" else alternative.share,
        passed=False,
        conditions=(),
        why_not=why_not,
    )


def _reasons(judged: Judged) -> Iterator[str]:
    if judged.why_not:
        yield f"{judged.name}: {judged.why_not}"
        return
    failed = [condition for condition in judged.conditions if not condition.passed]
    for condition in failed or judged.conditions:
        yield f"{judged.name}: {condition.words}"


def judge(report: CheckReport, policy: Policy, decision: Decision = "auto") -> Promoted | Rejected:
    """Promote the candidate under a strategy, or reject it, and say why.

    Args:
        report: What promoting it would do.
        policy: What an upgrade must satisfy.
        decision: `auto`, or an operator's choice, which overrules the conditions but not what is possible.

    Raises:
        CompatibilityError: if the operator chose what is not possible for this candidate.
    """
    judged = assess(report, policy)
    best = next((each for each in judged if each.passed), None)
    reasons = _explain(judged, best)
    chosen: tuple[Strategy, float | None] | None
    if decision == "auto":
        chosen = (best.strategy, best.share) if best else None
    else:
        chosen = None if decision == "reject" else _chosen(report, judged, decision)
        reasons = (decided_by_operator(decision), *(f"the gate: {reason}" for reason in reasons))
    if chosen is not None:
        return Promoted(
            task=report.task,
            candidate=report.candidate,
            champion=report.champion,
            decision=decision,
            judged=judged,
            reasons=reasons,
            strategy=chosen[0],
            share=chosen[1],
        )
    return Rejected(
        task=report.task,
        candidate=report.candidate,
        champion=report.champion,
        decision=decision,
        judged=judged,
        reasons=reasons,
        inconclusive=decision == "auto" and any(_undecided(each) for each in judged),
    )


def _explain(judged: tuple[Judged, ...], best: Judged | None) -> tuple[str, ...]:
    """Return why the chosen one passes and why each cheaper one does not; or why none does."""
    before = judged if best is None else judged[: judged.index(best)]
    against = [reason for each in before for reason in _reasons(each)]
    return (*(_reasons(best) if best else ()), *against)


def _undecided(judged: Judged) -> bool:
    """Return whether more queries could turn every condition that failed."""
    failed = [condition for condition in judged.conditions if not condition.passed]
    return judged.why_not is None and bool(failed) and all(condition.needs_queries for condition in failed)


def _chosen(report: CheckReport, judged: tuple[Judged, ...], decision: Decision) -> tuple[Strategy, float | None]:
    """What an operator chose; of partial backfills one that passes, else the first judged, else the largest offered."""
    offered = [alternative for alternative in report.alternatives if alternative.strategy == decision]
    if not offered:
        names = ", ".join(dict.fromkeys(alternative.strategy for alternative in report.alternatives))
        raise CompatibilityError(
            f"params.yaml: decisions.{report.task}: {decision}: the check offers {names}; choose one, auto or reject"
        )
    if offered[-1].why_not:
        raise CompatibilityError(
            f"params.yaml: decisions.{report.task}: {decision}: not possible, {offered[-1].why_not}; "
            "choose another strategy or reject"
        )
    mine = [each for each in judged if each.strategy == decision and each.share is not None]
    best = next((each for each in mine if each.passed), mine[0] if mine else offered[-1])
    return offered[-1].strategy, best.share
