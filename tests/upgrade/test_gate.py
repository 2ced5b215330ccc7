import numpy as np
import pytest
from gate_reports import POLICY, alternative, failed, first_model, measurement, pairs, policy, report

from csd_core.records.check import CrossTest, Measurement, Recalls
from csd_core.records.verdict import Promoted, Rejected
from csd_core.system.errors import CompatibilityError
from csd_core.upgrade.gate import assess, judge
from csd_core.upgrade.gate_rules import lower_bound, points, queries_needed, with_share


def test_the_cheapest_strategy_that_passes_is_taken_and_says_why():
    verdict = judge(report(), POLICY)
    assert isinstance(verdict, Promoted)
    assert verdict.strategy == "keep"
    assert verdict.reasons[0].startswith("keep: old classes +0.0 points, at worst -0.3 (1,000 queries, 0 lost")


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
    words = "keep: all classes +0.0 points, at worst -0.2 (1,000 queries, 0 lost, 0 gained); must gain more than 0.0"
    assert verdict.reasons == (words,)
    assert (verdict.inconclusive, verdict.out_of_reach, verdict.outlook) == (False, (), "")


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
    assert failed(verdict, "keep") == ["max_excess_flips"]
    assert "queries that hit today, against a full backfill -6.0 points" in verdict.reasons[0]


def test_what_a_full_backfill_loses_too_is_not_held_against_a_strategy():
    flips = pairs(lost=60, gained=200)
    excused = alternative(overall=flips).model_copy(update={"hits_against_backfill": pairs(lost=20, gained=10)})
    assert judge(report(excused), POLICY).strategy == "keep"
    not_excused = alternative(overall=flips).model_copy(update={"hits_against_backfill": pairs(lost=50, gained=10)})
    verdict = judge(report(not_excused), POLICY)
    assert failed(verdict, "keep") == ["max_excess_flips"]
    assert verdict.inconclusive


def test_a_clearly_better_model_is_not_refused_for_the_queries_that_its_full_backfill_flips():
    better = pairs(lost=43, gained=78)
    verdict = judge(report(alternative("backfill", overall=better)), policy(max_excess_flips=0.02))
    assert isinstance(verdict, Promoted)
    assert "max_excess_flips" not in [each.name for each in verdict.judged[0].conditions]


# --- a gain is proven -------------------------------------------------------------------------------------------------


def test_a_gain_of_one_query_is_inconclusive_and_says_how_many_would_decide():
    thin = alternative(overall=pairs(lost=9, gained=10, queries=229))
    verdict = judge(report(thin), policy(max_excess_flips=0.2))
    assert isinstance(verdict, Rejected)
    assert failed(verdict, "keep") == ["min_gain"]
    assert verdict.inconclusive
    assert verdict.outlook == "more queries could turn it"
    assert verdict.reasons[0].startswith("keep: all classes +0.4 points, at worst -2.6 (229 queries, 9 lost, 10")
    assert "; must gain more than 0.0: inconclusive, needs about 30,000 queries" in verdict.reasons[0]


def test_a_negative_gain_is_a_loss_that_must_be_proven_to_be_no_larger():
    lenient = policy(min_gain=-0.02, max_excess_flips=0.5)
    same = report(alternative(overall=pairs(lost=9, gained=9, queries=1000)))
    assert judge(same, lenient).strategy == "keep"
    few = report(alternative(overall=pairs(lost=9, gained=9, queries=100)))
    assert judge(few, lenient).inconclusive


def test_a_share_of_the_risk_makes_a_judgement_stricter():
    assert with_share(POLICY, 1.0) == POLICY
    assert with_share(POLICY, 0.5).confidence == pytest.approx(0.975)
    thin = pairs(lost=10, gained=20)
    assert lower_bound(thin, with_share(POLICY, 0.5)) <= 0 < lower_bound(thin, POLICY)


@pytest.mark.parametrize("flips", [0.01, 0.05, 0.2])
def test_a_candidate_without_a_gain_is_promoted_no_more_often_than_the_confidence_says(flips):
    rng = np.random.default_rng(1)
    drawn = rng.multinomial(229, [flips / 2, flips / 2, 1 - flips], size=(400, 4))
    lenient = policy(resamples=500, max_total_regression=1.0, max_excess_flips=1.0)
    taken = 0
    for ways in drawn.tolist():  # four ways that have nothing in common: the worst case
        names = ("keep", "adapt", "backfill")
        outcomes = [pairs(lost, gained, 229) for lost, gained, _ in ways]
        offered = [alternative(name, overall=each, old=pairs()) for name, each in zip(names, outcomes, strict=False)]
        taken += isinstance(judge(report(*offered), lenient), Promoted)
    assert taken / len(drawn) <= 0.06


@pytest.mark.parametrize(
    ("lost", "gained", "queries", "limit"),
    [(10, 12, 229, 0.0), (2, 0, 50, -0.08), (0, 0, 20, -0.05), (30, 40, 400, 0.0)],
)
def test_the_queries_asked_for_decide_about_four_times_in_five_or_more(lost, gained, queries, limit):
    needed = queries_needed(pairs(lost, gained, queries), limit=limit, confidence=0.95)
    shares = np.array([lost, gained, queries - lost - gained]) / queries
    drawn = np.random.default_rng(2).multinomial(needed, shares, size=200).tolist()
    few = policy(resamples=500)
    bounds = [lower_bound(pairs(lost, gained, needed), few) for lost, gained, _ in drawn]
    assert np.mean(np.array(bounds) > limit) >= 0.74


@pytest.mark.parametrize("queries", [5, 20, 60, 229])
@pytest.mark.parametrize("fall", [0.05, 0.1])
def test_a_fall_of_just_what_is_allowed_seldom_passes_however_few_the_queries(queries, fall):
    drawn = np.random.default_rng(3).multinomial(queries, [fall, 0.0, 1 - fall], size=300).tolist()
    passed = [lower_bound(pairs(lost, gained, queries), POLICY) >= -fall for lost, gained, _ in drawn]
    assert np.mean(passed) <= 0.15  # resampling alone: 0.77 of 5 queries, 0.36 of 20


def test_no_query_proves_nothing():
    assert lower_bound(pairs(queries=0), POLICY) == -1.0
    verdict = judge(report(alternative(old=pairs(queries=0))), POLICY)
    assert failed(verdict, "keep") == ["max_regression", "max_task_regression:t1"]
    assert verdict.reasons[0] == (
        "keep: old classes: no query can tell, for none has a second item of its class; may fall by 2.0"
    )


# --- out of reach -----------------------------------------------------------------------------------------------------


def test_what_even_a_full_backfill_cannot_meet_is_out_of_reach():
    worse = {"overall": pairs(lost=40, gained=10)}
    verdict = judge(report(alternative(**worse), alternative("backfill", **worse)), policy(allowed=["keep"]))
    assert verdict.out_of_reach == ("min_gain",)
    assert verdict.outlook == "out of reach even by backfill"
    words = [each.words for judged in verdict.judged for each in judged.conditions if each.name == "min_gain"]
    assert [each.endswith("must gain more than 0.0: out of reach even by backfill") for each in words] == [True]


def test_what_a_backfill_or_more_queries_would_meet_is_within_reach():
    worse, better = {"overall": pairs(lost=40, gained=10)}, {"overall": pairs(lost=10, gained=40)}
    thin = {"overall": pairs(lost=20, gained=22)}
    for by_backfill in (better, thin):
        ways = report(alternative(**worse), alternative("backfill", **by_backfill))
        assert judge(ways, policy(allowed=["keep"])).out_of_reach == ()
    assert judge(report(alternative(**worse)), POLICY).out_of_reach == ()  # no backfill was measured
    assert judge(report(alternative(**thin), alternative("backfill", **worse)), POLICY).out_of_reach == ()


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
    assert queries_needed(pairs(lost=10, gained=10, queries=100), limit=-0.02, confidence=0.95) == 3400
    assert queries_needed(pairs(lost=10, gained=5, queries=100), limit=-0.02, confidence=0.95) is None
    assert queries_needed(pairs(queries=0), limit=-0.02, confidence=0.95) is None


@pytest.mark.parametrize(
    ("recall", "precision", "missed"),
    [(0.49, 0.9, ["min_recall"]), (0.5, 0.4, []), (0.9, 0.39, ["min_map_at_r"])],
)
def test_a_first_model_must_reach_the_least_recall_and_precision(recall, precision, missed):
    verdict = judge(first_model(recall, precision), POLICY)
    assert isinstance(verdict, Rejected if missed else Promoted)
    assert failed(verdict, "none") == missed


def test_a_first_model_without_a_query_that_counts_is_not_called_bad_but_unmeasured():
    nothing = first_model(0.0)
    recalls = Recalls(queries=0, excluded=9, at={1: 0.0, 5: 0.0, 10: 0.0}, map_at_r=0.0)
    measured = Measurement(overall=recalls, old=None, new=recalls, per_task={}, own_gallery={})
    ways = (nothing.alternatives[0].model_copy(update={"measured": measured}),)
    verdict = judge(nothing.model_copy(update={"alternatives": ways}), POLICY)
    assert isinstance(verdict, Rejected)
    assert verdict.reasons[0] == (
        "first model: Recall@1 cannot be measured, for no query has a second item of its class, required 50.0 %"
    )
    assert (recalls.recall_at_1, measurement(0.7).overall.recall_at_1) == (None, 0.7)


def test_precision_over_all_classes_may_fall_only_so_far():
    verdict = judge(report(alternative(precision=0.74)), POLICY)
    assert failed(verdict, "keep") == ["max_map_regression"]
    assert verdict.reasons == ("keep: mAP@R of all classes -6.0 points (1,000 queries); may fall by 5.0",)
    assert isinstance(judge(report(alternative(precision=0.76)), POLICY), Promoted)


def test_a_fall_of_exactly_what_is_allowed_passes_whatever_the_rounding():
    assert 0.95 - 1.0 < -0.05
    exact = report(alternative(own=0.95), best={"t1": 1.0})
    assert isinstance(judge(exact, policy(max_total_regression=0.05)), Promoted)
    assert isinstance(judge(report(alternative(precision=0.7)), policy(max_map_regression=0.1)), Promoted)


# --- the rest of an upgrade -------------------------------------------------------------------------------------------


def test_without_old_items_only_the_overall_conditions_count():
    overall = alternative().model_copy(update={"against_status_quo": {"overall": pairs(gained=1)}})
    assert [each.name for each in assess(report(overall, best={}), POLICY)[0].conditions] == [
        "min_gain",
        "max_excess_flips",
        "max_map_regression",
    ]


def test_no_queries_at_all_gain_nothing():
    nothing = pairs(queries=0)
    verdict = judge(report(alternative(overall=nothing, old=nothing)), policy(min_gain=-1.0))
    assert "min_gain" in failed(verdict, "keep")


def test_a_stored_report_without_measurements_fails_and_does_not_crash():
    bare = first_model(0.9)
    bare = bare.model_copy(update={"alternatives": (bare.alternatives[0].model_copy(update={"measured": None}),)})
    assert failed(judge(bare, POLICY), "none") == ["min_recall", "min_map_at_r"]
    unmeasured = alternative().model_copy(update={"measured": None})
    names = [each.name for each in assess(report(unmeasured), POLICY)[0].conditions]
    assert "max_map_regression" not in names
    assert not any(name.startswith("max_total_regression") for name in names)


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


def test_the_bound_agrees_with_the_normal_approximation():
    pair = pairs(lost=60, gained=50, queries=2000)
    half_width = 1.645 * (110 / 2000 - pair.difference**2) ** 0.5 / 2000**0.5
    assert lower_bound(pair, policy(resamples=20_000)) == pytest.approx(pair.difference - half_width, abs=6e-4)


def test_points_are_rounded_without_a_minus_zero():
    assert points(-0.0001, signed=True) == "+0.0"
    assert points(0.1234) == "12.3"
