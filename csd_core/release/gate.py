"""The verdict on a candidate: a pure function of the check's report, the policy and an operator's decision.

The gate takes the cheapest allowed strategy that meets every condition. Per-query differences are -1, 0 or 1, so the
bootstrap over n queries is exactly a multinomial over three counts.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from csd_core.errors import CompatibilityError
from csd_core.params import Decision, Policy, Strategy
from csd_core.records import Alternative, CheckReport, Condition, Judged, Measurement, Paired, Promoted, Rejected

SMALLEST_MARGIN = 1e-4
"""An estimate this close to its limit (0.01 points) is no evidence for either side; no query count is promised."""

ROUNDING = 1e-9
"""A difference of two recalls is off by less: a fall of exactly what is allowed passes."""


def lower_bound(pairs: Paired, policy: Policy) -> float:
    """Lower end of the one-sided percentile interval of the change of Recall@1.

    Args:
        pairs: Counts of the same queries under two systems.
        policy: Gives confidence, resamples and seed.
    """
    if not pairs.queries:
        return 0.0
    same = pairs.queries - pairs.lost - pairs.gained
    shares = np.array([pairs.lost, pairs.gained, same]) / pairs.queries
    drawn = np.random.default_rng(policy.seed).multinomial(pairs.queries, shares, size=policy.resamples)
    changes = (drawn[:, 1] - drawn[:, 0]) / pairs.queries
    return float(np.quantile(changes, 1 - policy.confidence, method="lower"))


def queries_needed(pairs: Paired, *, limit: float, confidence: float) -> int | None:
    """About how many queries would put the lower bound above `limit`; None where the estimate itself is not.

    With n queries of which a share d flips, the interval's half-width is about z * sqrt(d / n).
    """
    margin = pairs.difference - limit
    if margin < SMALLEST_MARGIN or not pairs.queries:
        return None
    flips = (pairs.lost + pairs.gained) / pairs.queries
    z = NormalDist().inv_cdf(confidence)
    return max(pairs.queries + 1, math.ceil(flips * (z / margin) ** 2))


def points(share: float, *, signed: bool = False) -> str:
    """A share as points of recall: 0.0123 is 1.2."""
    value = round(100 * share, 1) + 0.0  # no minus zero
    return f"{value:+.1f}" if signed else f"{value:.1f}"


def _bounded(name: str, what: str, pairs: Paired, *, max_fall: float, policy: Policy) -> Condition:
    """The lower bound of a change may not fall below -max_fall."""
    bound = lower_bound(pairs, policy)
    passed = bound >= -max_fall
    needs = None if passed else queries_needed(pairs, limit=-max_fall, confidence=policy.confidence)
    words = (
        f"{what} {points(pairs.difference, signed=True)} points, at worst {points(bound, signed=True)} "
        f"({pairs.queries} queries, {pairs.lost} lost, {pairs.gained} gained); may fall by {points(max_fall)}"
    )
    if needs:
        words += f": inconclusive, needs about {needs:,} queries"
    return Condition(
        name=name,
        figure=pairs.difference,
        bound=bound,
        limit=-max_fall,
        passed=passed,
        words=words,
        needs_queries=needs,
    )


def _first_model(alternative: Alternative, policy: Policy) -> Iterator[Condition]:
    recall = alternative.measured.overall.at[1] if alternative.measured else 0.0
    yield Condition(
        name="min_recall",
        figure=recall,
        bound=None,
        limit=policy.min_recall,
        passed=recall >= policy.min_recall,
        words=f"Recall@1 {points(recall)}; a first model must reach {points(policy.min_recall)}",
        needs_queries=None,
    )
    precision = alternative.measured.overall.map_at_r if alternative.measured else 0.0
    yield Condition(
        name="min_map_at_r",
        figure=precision,
        bound=None,
        limit=policy.min_map_at_r,
        passed=precision >= policy.min_map_at_r,
        words=f"mAP@R {points(precision)}; a first model must reach {points(policy.min_map_at_r)}",
        needs_queries=None,
    )


def _against_status_quo(
    alternative: Alternative, policy: Policy, *, status_quo: Measurement | None
) -> Iterator[Condition]:
    against = alternative.against_status_quo
    if "old" in against:
        yield _bounded("max_regression", "old classes", against["old"], max_fall=policy.max_regression, policy=policy)
    for name, pairs in against.items():
        if name.startswith("task:"):
            task = name.removeprefix("task:")
            yield _bounded(
                f"max_task_regression:{task}",
                f"task {task}",
                pairs,
                max_fall=policy.max_task_regression,
                policy=policy,
            )
    overall = against["overall"]
    yield Condition(
        name="min_gain",
        figure=overall.difference,
        bound=None,
        limit=policy.min_gain,
        passed=overall.difference > policy.min_gain,
        words=(
            f"all classes {points(overall.difference, signed=True)} points; "
            f"must gain more than {points(policy.min_gain)}"
        ),
        needs_queries=None,
    )
    flips = overall.lost / overall.queries if overall.queries else 0.0
    yield Condition(
        name="max_negative_flips",
        figure=flips,
        bound=None,
        limit=policy.max_negative_flips,
        passed=flips <= policy.max_negative_flips,
        words=f"{points(flips)} % of queries hit today and would miss; at most {points(policy.max_negative_flips)} %",
        needs_queries=None,
    )
    if status_quo and alternative.measured:
        change = alternative.measured.overall.map_at_r - status_quo.overall.map_at_r
        yield Condition(
            name="max_map_regression",
            figure=change,
            bound=None,
            limit=-policy.max_map_regression,
            passed=change >= -policy.max_map_regression - ROUNDING,
            words=(
                f"mAP@R of all classes {points(change, signed=True)} points; "
                f"may fall by {points(policy.max_map_regression)}"
            ),
            needs_queries=None,
        )


def _upgrade(report: CheckReport, alternative: Alternative, policy: Policy) -> Iterator[Condition]:
    yield from _against_status_quo(alternative, policy, status_quo=report.status_quo)
    yield from _ratchet(report, alternative, policy)
    if policy.require_ecc and alternative.strategy == "keep":
        yield _ecc(report, policy)


def _ratchet(report: CheckReport, alternative: Alternative, policy: Policy) -> Iterator[Condition]:
    """No task may drift far below its best, however small each upgrade's bite."""
    own = alternative.measured.own_gallery if alternative.measured else {}
    for task, best in report.best_own_gallery.items():
        if task in own:
            change = own[task] - best
            yield Condition(
                name=f"max_total_regression:{task}",
                figure=change,
                bound=None,
                limit=-policy.max_total_regression,
                passed=change >= -policy.max_total_regression - ROUNDING,
                words=(
                    f"task {task} on its own gallery {points(change, signed=True)} points from its best "
                    f"({points(best)}); may fall by {points(policy.max_total_regression)} in all"
                ),
                needs_queries=None,
            )


def _ecc(report: CheckReport, policy: Policy) -> Condition:
    """C[t,k] > C[k,k], strictly, with confidence (Shen et al., BCT, CVPR 2020)."""
    test = report.cross_test
    pairs = test.paired if test else Paired(queries=0, lost=0, gained=0)
    bound = lower_bound(pairs, policy)
    passed = bound > 0
    needs = None if passed else queries_needed(pairs, limit=0.0, confidence=policy.confidence)
    words = (
        f"cross-test {points(pairs.difference, signed=True)} points over the self-test, "
        f"at worst {points(bound, signed=True)}; the compatibility criterion wants more than 0"
    )
    if needs:
        words += f": inconclusive, needs about {needs:,} queries"
    return Condition(
        name="require_ecc",
        figure=pairs.difference,
        bound=bound,
        limit=0.0,
        passed=passed,
        words=words,
        needs_queries=needs,
    )


def assess(report: CheckReport, policy: Policy) -> tuple[Judged, ...]:
    """Every strategy with the outcome of every condition, cheapest first.

    Of a partial backfill the smallest share that meets the policy on `select` is judged, so that the gate's queries
    judge a choice and do not make it. Only where it fails is the next share that passes on `select` judged too:
    otherwise a wider limit could choose a smaller share, see it fail, and end at a costlier strategy or none.
    """
    judged: list[Judged] = []
    partial = _shares_to_judge(report, policy)
    done = False
    for alternative in report.alternatives:
        if alternative.strategy != "partial":
            judged.append(_judged(report, alternative, policy))
        elif alternative.share in partial.chosen and not done:
            judged.append(_judged(report, alternative, policy))
            done = judged[-1].passed or judged[-1].why_not is not None
        elif not partial.chosen and alternative is partial.largest:
            judged.append(_refused(alternative, partial.why_not))
    return tuple(judged)


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
        conditions = _against_status_quo(rehearsed, policy, status_quo=report.rehearsal.status_quo)
        failed = next((each for each in conditions if not each.passed), None)
        if failed:
            last = f"{rehearsed.name}: {failed.words}"
        else:
            chosen.append(rehearsed.share)
    return _Shares(chosen=tuple(chosen), largest=largest, why_not=f"no share passes on select; {last}")


def _judged(report: CheckReport, alternative: Alternative, policy: Policy) -> Judged:
    if alternative.why_not:
        return _refused(alternative, alternative.why_not)
    first = alternative.strategy == "none"
    conditions = tuple(_first_model(alternative, policy) if first else _upgrade(report, alternative, policy))
    allowed = first or alternative.strategy in policy.allowed
    return Judged(
        strategy=alternative.strategy,
        share=alternative.share,
        passed=allowed and all(condition.passed for condition in conditions),
        conditions=conditions,
        why_not=None if allowed else "not in gate.allowed",
    )


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
    match decision:
        case "auto":
            chosen = (best.strategy, best.share) if best else None
        case "reject":
            chosen = None
            reasons = ("an operator rejected it", *(f"the gate: {reason}" for reason in reasons))
        case _:
            chosen = _chosen(report, judged, decision)
            reasons = (f"an operator chose {decision}", *(f"the gate: {reason}" for reason in reasons))
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
    """Why the chosen one passes and why each cheaper one does not; or why none does."""
    before = judged if best is None else judged[: judged.index(best)]
    against = [reason for each in before for reason in _reasons(each)]
    return (*(_reasons(best) if best else ()), *against)


def _undecided(judged: Judged) -> bool:
    """Whether more queries could turn every condition that failed."""
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
