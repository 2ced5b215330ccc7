"""`select` chooses a way to serve, the gate's queries judge it: which ways, in which order and how strictly."""

import json

import numpy as np
import pytest
from gate_reports import BAD, FLIPPING, POLICY, alternative, measurement, pairs, partial, policy, report

from csd_core.records.check import CheckReport, Recalls
from csd_core.records.verdict import Promoted, Rejected, VerdictFile, outcome_in_words
from csd_core.system.errors import CompatibilityError
from csd_core.upgrade.gate import assess, judge

EVERY = ["keep", "adapt", "merge", "partial", "backfill"]
NO_GAIN = {"overall": pairs(lost=20, gained=20)}
NEARLY = {"overall": pairs(lost=10, gained=20)}
"""A gain that is proven with a confidence of 0.95 and not with 0.975."""


def ways(**changes):
    """A way to serve of each kind, in the order of its cost; of each name, what else it has."""
    return tuple(
        alternative(name, rows=rows, **changes.get(name, {}))
        if share is None
        else partial(share, rows=rows, **changes.get(f"partial_{100 * share:g}", {}))
        for name, share, rows in (
            ("keep", None, 0),
            ("merge", None, 0),
            ("partial", 0.25, 1250),
            ("partial", 0.5, 2500),
            ("backfill", None, 5000),
        )
    )


def names(found):
    return [way.name for way in found]


def why_not(verdict):
    return {way.name: way.why_not for way in verdict.ways}


def confidences(verdict):
    return {way.name: pytest.approx(way.confidence) for way in verdict.judged}


# --- which ways are judged --------------------------------------------------------------------------------------------


def test_the_cheapest_that_passes_on_select_is_judged_and_what_costs_more_is_not_needed():
    verdict = judge(report(*ways(), rehearsed=ways(keep=BAD)), policy(allowed=EVERY))
    assert isinstance(verdict, Promoted)
    assert verdict.strategy == "merge"
    assert confidences(verdict) == {"merge": 0.975}
    assert why_not(verdict)["keep"].startswith("not chosen on select: old classes -10.0 points")
    assert why_not(verdict)["backfill"] == "not needed: merge costs less and passes"
    assert verdict.reasons[-1] == "keep: not chosen on select"


def test_where_no_cheaper_way_passes_on_select_the_backfill_has_the_whole_confidence():
    rehearsed = ways(keep=BAD, merge=BAD, partial_25=BAD, partial_50=BAD, backfill=BAD)
    verdict = judge(report(*ways(backfill=NEARLY), rehearsed=rehearsed), policy(allowed=EVERY))
    assert verdict.name == "backfill"
    assert confidences(verdict) == {"backfill": 0.95}


def test_a_candidate_whose_backfill_is_proven_is_not_lost_by_the_choice_of_a_cheaper_way():
    nothing = dict.fromkeys(("keep", "merge", "partial_25", "partial_50"), NO_GAIN)
    verdict = judge(report(*ways(**nothing), rehearsed=ways()), policy(allowed=EVERY))
    assert verdict.name == "backfill"
    assert confidences(verdict) == {"keep": 0.975, "partial 50 %": 0.975, "backfill": 0.975}
    assert why_not(verdict)["merge"] == why_not(verdict)["partial 25 %"] == "not reached: partial 50 % fails"


def test_below_a_proven_backfill_cheaper_ways_are_judged_down_to_the_first_that_fails():
    verdict = judge(report(*ways(keep=NO_GAIN, merge=NO_GAIN), rehearsed=ways(merge=BAD)), policy(allowed=EVERY))
    assert verdict.name == "partial 25 %"
    assert confidences(verdict) == {"keep": 0.95, "partial 25 %": 0.975, "partial 50 %": 0.975, "backfill": 0.975}
    assert why_not(verdict)["merge"].startswith("not chosen on select")


def test_once_all_others_are_proven_the_nominee_is_judged_with_the_whole_risk():
    verdict = judge(report(*ways(keep=NEARLY), rehearsed=ways()), policy(allowed=EVERY))
    assert verdict.name == "keep"
    assert confidences(verdict)["keep"] == 0.95
    verdict = judge(report(*ways(keep=NEARLY, merge=NO_GAIN), rehearsed=ways()), policy(allowed=EVERY))
    assert verdict.name == "partial 25 %"
    assert confidences(verdict)["keep"] == 0.975


def test_the_descent_goes_by_what_select_found_and_passes_over_what_costs_more_and_did_no_better():
    rehearsed = ways(merge={"overall": pairs(gained=60)}, partial_25={"overall": pairs(lost=5, gained=60)})
    verdict = judge(report(*ways(keep=NO_GAIN, merge=NO_GAIN), rehearsed=rehearsed), policy(allowed=EVERY))
    assert verdict.name == "backfill"
    assert names(verdict.judged) == ["keep", "merge", "backfill"]
    for name in ("partial 25 %", "partial 50 %"):
        assert why_not(verdict)[name] == "passed over: another way costs less and did no worse on select"
    verdict = judge(report(*ways(keep=NO_GAIN), rehearsed=rehearsed), policy(allowed=EVERY))
    assert verdict.name == "merge"
    assert why_not(verdict)["partial 25 %"] == "not needed: merge costs less and passes"


def test_a_rejection_names_the_nominees_and_the_backfills_failed_conditions_alone():
    verdict = judge(report(*ways(**dict.fromkeys(("keep", "backfill"), NO_GAIN)), rehearsed=ways()), POLICY)
    assert isinstance(verdict, Rejected)
    assert [reason.split(";")[0] for reason in verdict.reasons] == [
        f"{name}: all classes +0.0 points, at worst -1.3 (1,000 queries, 20 lost, 20 gained)"
        for name in ("keep", "backfill")
    ]
    assert why_not(verdict)["partial 50 %"] == "not reached: backfill fails"
    assert len(verdict.message) < 400
    assert verdict.acceptable == "backfill"


def test_where_a_backfill_is_not_allowed_the_costliest_way_takes_its_place():
    nothing = {"keep": NO_GAIN, "merge": NO_GAIN}
    verdict = judge(report(*ways(**nothing), rehearsed=ways()), policy(allowed=["keep", "partial"]))
    assert verdict.name == "partial 25 %"
    assert names(verdict.judged) == ["keep", "partial 25 %", "partial 50 %"]
    assert why_not(verdict)["backfill"] == why_not(verdict)["merge"] == "not in gate.allowed"


def test_a_way_that_costs_more_than_a_full_backfill_is_never_taken():
    dearer = (*ways()[:-1], alternative("merge", rows=6000), alternative("backfill", rows=5000, **NO_GAIN))
    rehearsed = ways(keep=BAD, merge=BAD, partial_25=BAD, partial_50=BAD)
    verdict = judge(report(*dearer[2:], rehearsed=rehearsed[2:]), policy(allowed=EVERY))
    assert isinstance(verdict, Rejected)
    assert names(verdict.ways) == ["partial 25 %", "partial 50 %", "backfill", "merge"]
    assert why_not(verdict)["merge"] == "costs more than a full backfill"


def test_where_nothing_may_be_taken_the_reasons_say_so():
    impossible = [partial(share, why_not="another dimension") for share in (0.1, 0.5)]
    verdict = judge(report(*impossible, alternative(), rehearsed=[]), policy(allowed=["partial"]))
    assert verdict.reasons == ("partial 10 %, partial 50 %: another dimension", "keep: not in gate.allowed")
    assert (verdict.judged, verdict.acceptable, verdict.next_step) == (
        (),
        None,
        "`csd summary` lists what can be done.",
    )


def test_a_gate_without_queries_is_not_passed_whatever_select_says():
    nothing = pairs(queries=0)
    blind = [alternative(name, overall=nothing, old=nothing) for name in ("keep", "backfill")]
    verdict = judge(report(*blind, rehearsed=[alternative(), alternative("backfill")]), POLICY)
    assert isinstance(verdict, Rejected)
    assert names(verdict.judged) == ["keep", "backfill"]


# --- what a verdict tells ---------------------------------------------------------------------------------------------


def test_ways_are_listed_by_cost_with_what_they_cost_and_what_they_reached_on_select():
    offered = [
        alternative("keep", why_not="another dimension"),
        alternative("adapt").model_copy(update={"rows_mapped": 900, "searches": 1, "row_bytes": 256}),
        alternative("merge").model_copy(update={"query_models": 2, "searches": 2, "row_bytes": 256}),
        partial(0.1, rows=100),
        alternative("backfill", rows=1000),
    ]
    shuffled = [offered[0], *offered[:0:-1]]
    found = assess(report(*shuffled, rehearsed=offered), policy(allowed=EVERY))
    assert names(found) == names(offered)
    assert found[0].cost is None
    assert found[0].on_select is None
    assert found[1].cost.words == "0 rows re-embedded, 900 mapped, 1 query model, 1 search, 256 bytes a row"
    assert found[2].cost.words.endswith("2 query models, 2 searches, 256 bytes a row")
    assert found[3].cost.words == "100 rows re-embedded, 0 mapped, 1 query model"
    assert (found[1].on_select.recall, found[1].on_select.against_status_quo) == (0.9, pairs(gained=40))


def test_a_way_that_no_select_query_can_tell_about_is_not_chosen():
    recalls = Recalls(queries=0, excluded=9, at={1: 0.0, 5: 0.0, 10: 0.0}, map_at_r=0.0)
    blind = alternative(overall=pairs(queries=0), old=pairs(queries=0)).model_copy(
        update={"measured": measurement().model_copy(update={"overall": recalls})}
    )
    verdict = judge(report(alternative(), alternative("backfill"), rehearsed=[blind]), POLICY)
    assert verdict.name == "backfill"
    assert verdict.ways[0].on_select.recall is None
    assert "no query can tell" in verdict.ways[0].why_not


def test_an_operators_partial_backfill_passed_or_was_judged_or_passed_on_select_else_it_is_the_largest():
    def chosen(alternatives, rehearsed):
        verdict = judge(report(*alternatives, rehearsed=rehearsed), policy(allowed=EVERY), "partial")
        assert isinstance(verdict, Promoted)
        assert verdict.reasons[0] == "an operator chose partial"
        return verdict.share

    assert chosen(ways(keep=NO_GAIN, merge=NO_GAIN, partial_25=NO_GAIN), ways()) == 0.5
    bad = ways(keep=BAD, merge=BAD, partial_25=NO_GAIN, partial_50=NO_GAIN, backfill=NO_GAIN)
    assert chosen(bad, ways(keep=BAD, merge=BAD)) == 0.25
    assert chosen(ways(), ways(partial_25=BAD)) == 0.5
    assert chosen(ways(), ways(partial_25=BAD, partial_50=BAD)) == 0.5


def test_an_operator_cannot_choose_a_partial_backfill_that_is_impossible():
    reason = "the gallery has no select rows to choose order and share on"
    with pytest.raises(CompatibilityError, match=f"decisions.t2: partial: not possible, {reason}; choose another"):
        judge(report(partial(0.1, why_not=reason)), POLICY, "partial")


def test_the_ratchet_is_held_by_the_gate_alone():
    verdict = judge(report(*ways(keep={"own": 0.8}), rehearsed=ways()), policy(allowed=EVERY))
    assert verdict.name == "merge"
    assert [condition.name for condition in verdict.ways[0].failed] == ["max_total_regression:t1"]


# --- the risk of a verdict --------------------------------------------------------------------------------------------


def test_a_gain_that_five_shares_of_the_risk_could_not_prove_is_proven_by_two():
    """Digits, 254 queries: the backfill gains 3.5 points, 2 lost and 11 gained."""
    few = {"old": pairs(gained=3, queries=145), "task": pairs(gained=3, queries=145)}
    offered = [
        alternative("keep", overall=pairs(3, 8, 254), **few),
        alternative("adapt", overall=pairs(3, 8, 254), **few),
        alternative("merge", overall=pairs(1, 7, 254), **few),
        partial(0.1, overall=pairs(3, 9, 254), rows=72, **few),
        alternative("backfill", overall=pairs(2, 11, 254), rows=720, **few),
    ]
    limits = policy(allowed=EVERY, max_regression=0.05, max_task_regression=0.08)
    before = judge(report(*offered, rehearsed=offered[3:4]), limits)  # as every way was judged
    assert isinstance(before, Rejected)
    assert before.inconclusive
    assert confidences(before) == dict.fromkeys(names(offered), 0.99)
    after = judge(report(*offered, rehearsed=offered), limits)
    assert outcome_in_words(after) == "promoted under backfill"


def drawn(rng, rates, queries):
    """A report's ways to serve; each has a rate of lost and of gained queries, and half of the flips in common."""
    shared = rng.random(queries)
    offered = []
    for name, share, rows, (lost, gained) in rates:
        own = np.where(rng.random(queries) < 0.5, shared, rng.random(queries))
        overall = pairs(int((own < lost).sum()), int((own > 1 - gained).sum()), queries)
        offered.append(alternative(name, share=share, rows=rows, overall=overall, old=pairs(queries=1000)))
    return tuple(offered)


SAME, BETTER = (0.04, 0.04), (0.02, 0.07)


@pytest.mark.parametrize(
    ("nominee", "between", "backfill"),
    [(SAME, SAME, SAME), (SAME, SAME, BETTER), (SAME, BETTER, BETTER), (BETTER, SAME, SAME), (SAME, BETTER, SAME)],
)
def test_a_way_that_gains_nothing_is_taken_no_more_often_than_the_confidence_allows(nominee, between, backfill):
    """Whatever is true of the other ways: the family-wise rate of five ways, over 500 upgrades."""
    rng = np.random.default_rng(7)
    rates = (
        ("keep", None, 0, nominee),
        ("merge", None, 0, between),
        ("partial", 0.25, 250, between),
        ("partial", 0.5, 500, between),
        ("backfill", None, 1000, backfill),
    )
    truths = {(name, share): truth for name, share, _, truth in rates}
    lenient = policy(allowed=EVERY, resamples=500, max_excess_flips=1.0)
    taken, trials = 0, 500
    for _ in range(trials):
        verdict = judge(report(*drawn(rng, rates, 300), rehearsed=drawn(rng, rates, 200)), lenient)
        taken += isinstance(verdict, Promoted) and truths[verdict.strategy, verdict.share] == SAME
    assert taken / trials <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / trials)


# --- records of before ------------------------------------------------------------------------------------------------


def of_before(measured):
    """The same report as it was written before: partial backfills alone on `select`, no searches and no bytes."""
    found = json.loads(measured.model_dump_json())
    for each in (*found["alternatives"], *found["rehearsal"]["alternatives"]):
        del each["searches"], each["row_bytes"]
    partials = [each for each in found["rehearsal"]["alternatives"] if each["strategy"] == "partial"]
    found["rehearsal"]["alternatives"] = partials
    return CheckReport.model_validate_json(json.dumps(found))


def test_ways_that_were_not_measured_on_select_are_judged_with_a_share_each():
    verdict = judge(of_before(report(*ways(keep=NO_GAIN), rehearsed=ways())), policy(allowed=EVERY))
    assert verdict.name == "merge"
    assert confidences(verdict) == {"keep": 0.9875, "merge": 0.9875}
    assert why_not(verdict)["partial 25 %"] == "not needed: merge costs less and passes"
    nothing = dict.fromkeys(("keep", "merge", "partial_25", "partial_50", "backfill"), FLIPPING)
    verdict = judge(of_before(report(*ways(**nothing), rehearsed=ways())), policy(allowed=EVERY))
    assert names(verdict.judged) == ["keep", "merge", "partial 25 %", "partial 50 %", "backfill"]
    assert verdict.name == "backfill"


def test_without_a_rehearsal_every_allowed_way_is_judged():
    verdict = judge(report(*ways(keep=NO_GAIN, merge=NO_GAIN)), policy(allowed=EVERY))
    assert verdict.name == "partial 25 %"
    assert confidences(verdict) == {"keep": 0.99, "merge": 0.99, "partial 25 %": 0.99}


def test_a_verdict_of_before_is_read(tmp_path):
    verdict = judge(report(), policy(allowed=EVERY))
    found = json.loads(VerdictFile(verdict=verdict).model_dump_json())
    old = {"strategy", "share", "passed", "conditions", "why_not"}
    found["verdict"]["judged"] = [{key: way[key] for key in old} for way in found["verdict"].pop("ways")]
    (tmp_path / "verdict.json").write_text(json.dumps(found), encoding="utf-8")
    read = VerdictFile.load(tmp_path / "verdict.json").verdict
    assert names(read.ways) == ["keep", "backfill"]
    assert (read.name, read.ways[0].conditions) == (verdict.name, verdict.ways[0].conditions)
    assert read.ways[0].cost is None
