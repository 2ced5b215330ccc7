import pytest
from hypothesis import given
from hypothesis import strategies as st

from csd_core.errors import CompatibilityError
from csd_core.params import Policy
from csd_core.records import (
    Alternative,
    CheckReport,
    CrossTest,
    Measurement,
    Paired,
    Promoted,
    Recalls,
    Rejected,
)
from csd_core.release.gate import judge, lower_bound, points, queries_needed

POLICY = Policy(
    allowed=["keep", "backfill"],
    confidence=0.95,
    resamples=2000,
    seed=1,
    max_regression=0.02,
    max_task_regression=0.05,
    max_total_regression=0.05,
    min_gain=0.0,
    max_negative_flips=0.05,
    require_ecc=False,
    min_recall=0.5,
)


def pairs(lost=0, gained=0, queries=1000):
    return Paired(queries=queries, lost=lost, gained=gained)


def measurement(recall=0.9, own=0.9):
    recalls = Recalls(queries=1000, excluded=0, at={1: recall, 5: 0.95, 10: 0.97}, map_at_r=0.8)
    return Measurement(overall=recalls, old=recalls, new=recalls, per_task={"t1": recall}, own_gallery={"t1": own})


def alternative(strategy="keep", *, old=None, task=None, overall=None, own=0.9, why_not=None, rows=0):
    return Alternative(
        strategy=strategy,
        possible=why_not is None,
        why_not=why_not,
        rows_embedded=rows,
        measured=measurement(own=own) if why_not is None else None,
        against_status_quo={}
        if why_not
        else {"overall": overall or pairs(gained=40), "old": old or pairs(), "task:t1": task or old or pairs()},
    )


def report(*alternatives, cross=None, best=None):
    return CheckReport(
        task="t2",
        split="gate",
        candidate="c" * 64,
        champion="a" * 64,
        pending=(),
        status_quo=measurement(),
        cross_test=cross,
        alternatives=alternatives or (alternative(), alternative("backfill", rows=5000)),
        best_own_gallery={"t1": 0.9} if best is None else best,
    )


def first_model(recall):
    measured = measurement(recall)
    return CheckReport(
        task="t1",
        split="gate",
        candidate="c" * 64,
        champion=None,
        pending=(),
        status_quo=None,
        cross_test=None,
        alternatives=(
            Alternative(
                strategy="none",
                possible=True,
                why_not=None,
                rows_embedded=0,
                measured=measured,
                against_status_quo={},
            ),
        ),
        best_own_gallery={},
    )


def policy(**changes):
    return POLICY.model_copy(update=changes)


def failed(verdict, strategy):
    judged = next(each for each in verdict.judged if each.strategy == strategy)
    return [condition.name for condition in judged.conditions if not condition.passed]


def test_the_cheapest_strategy_that_passes_is_taken_and_says_why():
    verdict = judge(report(), POLICY)
    assert isinstance(verdict, Promoted)
    assert verdict.strategy == "keep"
    assert verdict.reasons[0].startswith("keep: old classes +0.0 points, at worst +0.0")


def test_a_strategy_that_loses_too_much_gives_way_to_the_next_and_is_told_why():
    verdict = judge(report(alternative(old=pairs(lost=60)), alternative("backfill")), POLICY)
    assert isinstance(verdict, Promoted)
    assert verdict.strategy == "backfill"
    assert any(reason.startswith("keep: old classes -6.0 points") for reason in verdict.reasons)


def test_a_strategy_that_is_not_allowed_is_not_taken():
    verdict = judge(report(), policy(allowed=["backfill"]))
    assert isinstance(verdict, Promoted)
    assert verdict.strategy == "backfill"
    assert "keep: not in gate.allowed" in verdict.reasons


def test_a_strategy_that_is_impossible_is_not_taken():
    verdict = judge(report(alternative(why_not="the gallery has 32 dimensions, the candidate 64")), POLICY)
    assert isinstance(verdict, Rejected)
    assert verdict.reasons == ("keep: the gallery has 32 dimensions, the candidate 64",)
    assert not verdict.inconclusive


def test_a_candidate_that_ties_with_the_champion_is_rejected_and_told_why():
    verdict = judge(report(alternative(overall=pairs())), POLICY)
    assert isinstance(verdict, Rejected)
    assert failed(verdict, "keep") == ["min_gain"]
    assert verdict.reasons == ("keep: all classes +0.0 points; must gain more than 0.0",)


def test_one_task_may_not_pay_for_the_others():
    verdict = judge(report(alternative(task=pairs(lost=30, queries=200))), policy(max_regression=0.5))
    assert failed(verdict, "keep") == ["max_task_regression:t1"]


def test_no_task_may_drift_far_below_its_best():
    verdict = judge(report(alternative(own=0.84)), POLICY)
    assert failed(verdict, "keep") == ["max_total_regression:t1"]


def test_a_task_that_was_never_served_has_no_best():
    assert isinstance(judge(report(alternative(own=0.1), best={}), POLICY), Promoted)
    assert isinstance(judge(report(alternative(own=0.1), best={"gone": 0.9}), POLICY), Promoted)


def test_queries_that_would_newly_miss_are_limited_even_where_as_many_are_gained():
    verdict = judge(report(alternative(overall=pairs(lost=60, gained=200))), POLICY)
    assert failed(verdict, "keep") == ["max_negative_flips"]


def test_a_tie_is_not_the_compatibility_criterion():
    tie = CrossTest(self_test=0.9, cross_test=0.9, paired=pairs(lost=5, gained=5))
    verdict = judge(report(cross=tie), policy(require_ecc=True))
    assert failed(verdict, "keep") == ["require_ecc"]
    assert isinstance(verdict, Promoted)
    assert verdict.strategy == "backfill"


def test_the_compatibility_criterion_needs_its_bound_above_zero():
    clear = CrossTest(self_test=0.9, cross_test=0.95, paired=pairs(gained=50))
    assert judge(report(cross=clear), policy(require_ecc=True)).strategy == "keep"
    thin = CrossTest(self_test=0.9, cross_test=0.901, paired=pairs(lost=9, gained=10))
    verdict = judge(report(alternative(), cross=thin), policy(require_ecc=True))
    assert isinstance(verdict, Rejected)
    assert verdict.inconclusive
    assert failed(judge(report(cross=None), policy(require_ecc=True)), "keep") == ["require_ecc"]


def test_a_verdict_that_more_queries_could_turn_says_how_many():
    thin = report(alternative(old=pairs(lost=5, gained=4, queries=100)))
    verdict = judge(thin, policy(max_task_regression=0.5))
    assert isinstance(verdict, Rejected)
    assert verdict.inconclusive
    assert "inconclusive, needs about" in verdict.reasons[0]


def test_a_clear_regression_is_not_called_inconclusive():
    verdict = judge(report(alternative(old=pairs(lost=100))), POLICY)
    assert isinstance(verdict, Rejected)
    assert not verdict.inconclusive


def test_queries_needed_follow_the_half_width_of_the_interval():
    assert queries_needed(pairs(lost=10, gained=10, queries=100), limit=-0.02, confidence=0.95) == 1353
    assert queries_needed(pairs(lost=10, gained=5, queries=100), limit=-0.02, confidence=0.95) is None
    assert queries_needed(pairs(queries=0), limit=-0.02, confidence=0.95) is None


@pytest.mark.parametrize(("recall", "outcome"), [(0.49, Rejected), (0.5, Promoted)])
def test_a_first_model_must_reach_the_least_recall(recall, outcome):
    verdict = judge(first_model(recall), POLICY)
    assert isinstance(verdict, outcome)


def test_an_operator_may_overrule_the_conditions_but_the_verdict_tells():
    bad = report(alternative(old=pairs(lost=300)))
    verdict = judge(bad, POLICY, "keep")
    assert isinstance(verdict, Promoted)
    assert verdict.reasons[0] == "an operator chose keep"
    assert verdict.reasons[1].startswith("the gate: keep: old classes -30.0")
    rejected = judge(report(), POLICY, "reject")
    assert isinstance(rejected, Rejected)
    assert rejected.reasons[0] == "an operator rejected it"
    assert not rejected.inconclusive


def test_an_operator_cannot_choose_what_is_not_possible():
    impossible = report(alternative(why_not="the gallery has 32 dimensions, the candidate 64"))
    with pytest.raises(CompatibilityError, match="decisions.t2: keep: not possible, the gallery has 32"):
        judge(impossible, POLICY, "keep")
    with pytest.raises(CompatibilityError, match="decisions.t2: none: the check offers keep, backfill"):
        judge(report(), POLICY, "none")
    with pytest.raises(CompatibilityError, match="decisions.t1: keep: the check offers none"):
        judge(first_model(0.9), POLICY, "keep")
    assert isinstance(judge(first_model(0.1), POLICY, "none"), Promoted)


counts = st.integers(0, 200)


@given(lost=counts, gained=counts, limits=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_the_verdict_is_monotone_in_the_regression_it_tolerates(lost, gained, limits):
    narrow, wide = sorted(limits)
    measured = report(alternative(old=pairs(lost, gained), task=pairs()))
    if isinstance(judge(measured, policy(max_regression=narrow)), Promoted):
        assert isinstance(judge(measured, policy(max_regression=wide)), Promoted)


@given(limit=st.floats(0, 1), queries=st.integers(0, 5000))
def test_an_identical_candidate_is_never_called_regressed(limit, queries):
    same = pairs(queries=queries)
    verdict = judge(
        report(alternative(old=same, overall=same)), policy(max_regression=limit, max_task_regression=limit)
    )
    assert failed(verdict, "keep") == ["min_gain"]


@given(lost=counts, gained=counts)
def test_the_bound_is_that_of_a_bootstrap_over_queries(lost, gained):
    pair = pairs(lost, gained)
    assert lower_bound(pair, POLICY) <= pair.difference
    assert lower_bound(pair, POLICY) >= -1


def test_the_bound_agrees_with_the_normal_approximation():
    pair = pairs(lost=60, gained=50, queries=2000)
    half_width = 1.645 * (110 / 2000 - pair.difference**2) ** 0.5 / 2000**0.5
    assert lower_bound(pair, policy(resamples=20_000)) == pytest.approx(pair.difference - half_width, abs=6e-4)


def test_points_are_rounded_without_a_minus_zero():
    assert points(-0.0001, signed=True) == "+0.0"
    assert points(0.1234) == "12.3"
