"""The conditions of a policy: figure, bound and limit of each, with the outcome in words.

Per-query differences are -1, 0 or 1, so the bootstrap over n queries is exactly a multinomial over three counts. What
is proven (a lower bound beyond its limit) and what is compared as it was measured:

    max_regression, max_task_regression, min_gain, max_excess_flips, require_ecc      proven
    max_total_regression   as measured: the best ever is an estimate on the same queries, and each step is proven
    max_map_regression     as measured: it tells trained from untrained networks, which lie tens of points apart
    min_recall, min_map_at_r   as measured: nothing is served yet that could be harmed
"""

import math
from collections.abc import Iterator
from functools import lru_cache
from statistics import NormalDist

import numpy as np

from csd_core.params.upgrade import Policy
from csd_core.records.check import Alternative, CheckReport, Measurement, Paired
from csd_core.records.verdict import Condition

SMALLEST_MARGIN = 1e-4
"""An estimate this close to its limit (0.01 points) is no evidence for either side; no query count is promised."""

ROUNDING = 1e-9
"""A difference of two recalls is off by less: a fall of exactly what is allowed passes."""

UNSEEN = 1
"""Queries added to those lost and to those gained before resampling (after Agresti & Min, 2005): a flip that none of a
few queries showed may still happen, and resampling alone would call it impossible."""

POWER = 0.8
"""Chance that the queries which are asked for decide, if the estimate is the truth."""


def with_share(policy: Policy, share: float) -> Policy:
    """Return the policy by which a way is judged that has a share (0 to 1) of the verdict's risk (Bonferroni)."""
    return policy.model_copy(update={"confidence": 1 - (1 - policy.confidence) * share})


def lower_bound(pairs: Paired, policy: Policy) -> float:
    """Lower end of the one-sided percentile interval of the change of Recall@1; -1 where no query was asked.

    Args:
        pairs: Counts of the same queries under two systems.
        policy: Gives resamples, seed and confidence.
    """
    if not pairs.queries:
        return -1.0
    counts = (pairs.lost, pairs.gained, pairs.queries - pairs.lost - pairs.gained)
    return _lower_bound(counts, policy.resamples, policy.seed, policy.confidence)


@lru_cache(maxsize=10_000)
def _lower_bound(counts: tuple[int, int, int], resamples: int, seed: int, confidence: float) -> float:
    lost, gained, same = counts
    queries = sum(counts)
    shares = np.array([lost + UNSEEN, gained + UNSEEN, same]) / (queries + 2 * UNSEEN)
    drawn = np.random.default_rng(seed).multinomial(queries, shares, size=resamples)
    changes = (drawn[:, 1] - drawn[:, 0]) / queries
    return float(np.quantile(changes, 1 - confidence, method="lower"))


def queries_needed(pairs: Paired, *, limit: float, confidence: float) -> int | None:
    """About how many queries would put the lower bound above `limit`; None where the estimate itself is not.

    So many do it with a chance of POWER. With n queries of which a share d flips, a change c varies by about
    sqrt((d - c^2) / n).
    """
    margin = pairs.difference - limit
    if margin < SMALLEST_MARGIN or not pairs.queries:
        return None
    flips = (pairs.lost + pairs.gained + 2 * UNSEEN) / (pairs.queries + 2 * UNSEEN)
    z = NormalDist().inv_cdf(confidence) + NormalDist().inv_cdf(POWER)
    needed = (flips - pairs.difference**2) * (z / margin) ** 2
    return _about(max(pairs.queries + 1, math.ceil(needed)))


def _about(count: int) -> int:
    """Rounded up to two digits, for it is an estimate."""
    step = int(10 ** max(0, len(str(count)) - 2))
    return -(-count // step) * step


def points(share: float, *, signed: bool = False) -> str:
    """Return a share as points of recall: 0.0123 is 1.2."""
    value = round(100 * share, 1) + 0.0  # no minus zero
    return f"{value:+.1f}" if signed else f"{value:.1f}"


def _proven(
    name: str, what: str, pairs: Paired, *, limit: float, rule: str, policy: Policy, strictly: bool = False
) -> Condition:
    """Return the condition that the lower bound of a change reaches `limit`, or exceeds it."""
    bound = lower_bound(pairs, policy)
    passed = bound > limit if strictly else bound >= limit
    needs = None if passed else queries_needed(pairs, limit=limit, confidence=policy.confidence)
    counts = f"{pairs.queries:,} queries, {pairs.lost:,} lost, {pairs.gained:,} gained"
    words = f"{what} {points(pairs.difference, signed=True)} points, at worst {points(bound, signed=True)} ({counts})"
    if not pairs.queries:
        words = f"{what}: no query can tell, for none has a second item of its class"
    words += f"; {rule}"
    if needs:
        words += f": inconclusive, needs about {needs:,} queries"
    return Condition(
        name=name,
        figure=pairs.difference,
        bound=bound,
        limit=limit,
        passed=passed,
        words=words,
        needs_queries=needs,
    )


def _may_fall(name: str, what: str, pairs: Paired, *, most: float, policy: Policy) -> Condition:
    return _proven(name, what, pairs, limit=-most, rule=f"may fall by {points(most)}", policy=policy)


def of_first_model(alternative: Alternative, policy: Policy) -> Iterator[Condition]:
    """Yield what a model that takes over nothing must reach."""
    overall = alternative.measured.overall if alternative.measured else None
    queries = overall.queries if overall else 0
    for name, what, figure, limit in (
        ("min_recall", "Recall@1", overall.at[1] if overall else 0.0, policy.min_recall),
        ("min_map_at_r", "mAP@R", overall.map_at_r if overall else 0.0, policy.min_map_at_r),
    ):
        found = f"{what} {points(figure)} % ({queries:,} queries)"
        if not queries:
            found = f"{what} cannot be measured, for no query has a second item of its class"
        yield Condition(
            name=name,
            figure=figure,
            bound=None,
            limit=limit,
            passed=figure >= limit,
            words=f"{found}, required {points(limit)} %",
            needs_queries=None,
        )


def against_status_quo(
    alternative: Alternative, policy: Policy, *, status_quo: Measurement | None, rehearsed: bool = False
) -> Iterator[Condition]:
    """Yield what must hold against the search that is served today.

    Args:
        alternative: A way to serve the candidate.
        policy: The limits.
        status_quo: The search that is served today.
        rehearsed: Whether this chooses what is judged later on other queries: the gain need not be proven then.
    """
    against = alternative.against_status_quo
    if "old" in against:
        yield _may_fall("max_regression", "old classes", against["old"], most=policy.max_regression, policy=policy)
    for name, pairs in against.items():
        if name.startswith("task:"):
            task = name.removeprefix("task:")
            limit = policy.max_task_regression
            yield _may_fall(f"max_task_regression:{task}", f"task {task}", pairs, most=limit, policy=policy)
    overall = against["overall"]
    rule = f"must gain more than {points(policy.min_gain)}"
    gain = _proven("min_gain", "all classes", overall, limit=policy.min_gain, rule=rule, policy=policy, strictly=True)
    if rehearsed and overall.difference > policy.min_gain:
        gain = gain.model_copy(update={"passed": True})
    yield gain
    if alternative.strategy != "backfill":
        yield _excess_flips(alternative, policy)
    if status_quo and alternative.measured:
        change = alternative.measured.overall.map_at_r - status_quo.overall.map_at_r
        yield _within(
            "max_map_regression",
            change,
            policy.max_map_regression,
            f"mAP@R of all classes {points(change, signed=True)} points ({overall.queries:,} queries); "
            f"may fall by {points(policy.max_map_regression)}",
        )


def _excess_flips(alternative: Alternative, policy: Policy) -> Condition:
    """Queries that hit today and would miss, beyond those that the candidate loses however it is served."""
    pairs = alternative.hits_against_backfill
    if pairs is None:  # a report of before has no counts against a backfill: none of its losses is excused
        overall = alternative.against_status_quo["overall"]
        pairs = Paired(queries=overall.queries, lost=overall.lost, gained=0)
    return _proven(
        "max_excess_flips",
        "queries that hit today, against a full backfill",
        pairs,
        limit=-policy.max_excess_flips,
        rule=f"may lose {points(policy.max_excess_flips)} more than it",
        policy=policy,
    )


def of_upgrade(report: CheckReport, alternative: Alternative, policy: Policy) -> Iterator[Condition]:
    """Yield every condition on a way to serve a candidate that has a predecessor."""
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
            yield _within(
                f"max_total_regression:{task}",
                change,
                policy.max_total_regression,
                f"task {task} on its own gallery {points(change, signed=True)} points from its best "
                f"({points(best)}); may fall by {points(policy.max_total_regression)} in all",
            )


def _within(name: str, change: float, may_fall: float, words: str) -> Condition:
    """Return a condition on a figure without a bound: it may fall by so much."""
    passed = change >= -may_fall - ROUNDING
    return Condition(
        name=name, figure=change, bound=None, limit=-may_fall, passed=passed, words=words, needs_queries=None
    )


def _ecc(report: CheckReport, policy: Policy) -> Condition:
    """C[t,k] > C[k,k], strictly, with confidence (Shen et al., BCT, CVPR 2020)."""
    test = report.cross_test
    pairs = test.paired if test else Paired(queries=0, lost=0, gained=0)
    what, rule = "cross-test against the self-test", "the compatibility criterion wants more than 0"
    return _proven("require_ecc", what, pairs, limit=0.0, rule=rule, policy=policy, strictly=True)
