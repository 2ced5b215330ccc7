"""The conditions of a policy: figure, bound and limit of each, with the outcome in words.

Per-query differences are -1, 0 or 1, so the bootstrap over n queries is exactly a multinomial over three counts.
"""

import math
from collections.abc import Iterator
from statistics import NormalDist

import numpy as np

from csd_core.params import Policy
from csd_core.records_check import Alternative, CheckReport, Measurement, Paired
from csd_core.records_verdict import Condition

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


def of_first_model(alternative: Alternative, policy: Policy) -> Iterator[Condition]:
    """What a model that takes over nothing must reach."""
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


def against_status_quo(
    alternative: Alternative, policy: Policy, *, status_quo: Measurement | None
) -> Iterator[Condition]:
    """What must hold against the search that is served today.

    Args:
        alternative: A way to serve the candidate.
        policy: The limits.
        status_quo: The search that is served today.
    """
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


def of_upgrade(report: CheckReport, alternative: Alternative, policy: Policy) -> Iterator[Condition]:
    """Every condition on a way to serve a candidate that has a predecessor."""
    yield from against_status_quo(alternative, policy, status_quo=report.status_quo)
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
