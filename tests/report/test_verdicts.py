from dataclasses import replace

import pytest

from csd_core.params.production import Review
from csd_core.records.check import ServingPoint
from csd_core.records.verdict import Condition, Way
from csd_core.report import verdicts


def test_a_rejection_that_more_queries_could_turn_says_so(refused):
    task = refused.report_data.tasks[0]
    open_verdict = task.verdict.model_copy(update={"inconclusive": True})
    assert verdicts.verdict_in_words(replace(task, verdict=open_verdict)).startswith("inconclusive")


def test_a_rejection_that_even_a_backfill_could_not_turn_says_so(refused):
    task = refused.report_data.tasks[0]
    first, *others = task.verdict.ways
    condition = first.conditions[0].model_copy(update={"out_of_reach": True})
    ways = (first.model_copy(update={"conditions": (condition,)}), *others)
    verdict = task.verdict.model_copy(update={"ways": ways, "inconclusive": False})
    assert verdicts.verdict_in_words(replace(task, verdict=verdict)).endswith(": out of reach even by backfill")


def test_a_strategy_that_cannot_be_served_is_named_with_its_reason(promoted):
    task = promoted.report_data.tasks[1]
    keep, *others = task.verdict.ways
    verdict = task.verdict.model_copy(
        update={
            "strategy": "backfill",
            "ways": (
                keep.model_copy(update={"passed": False, "conditions": (), "why_not": "another dimension"}),
                *others,
            ),
        }
    )
    assert verdicts.because(replace(task, verdict=verdict))[0] == "keep: another dimension"


def test_verdicts_say_what_becomes_of_every_stored_vector(mixed, carried, promoted):
    first, partial, adapt, rejected = map(verdicts.verdict_in_words, mixed.report_data.tasks)
    assert first == "first model; nothing to upgrade"
    assert partial == "partial 75 %: three quarters of the stored vectors re-embedded, the rest mapped"
    assert adapt == "adapt: every stored vector mapped"
    assert rejected == "the champion stays: out of reach even by backfill"
    assert verdicts.verdict_in_words(carried.report_data.tasks[2]) == "backfill: every stored vector re-embedded"
    assert verdicts.verdict_in_words(promoted.report_data.tasks[1]) == "keep: every stored vector left as it was"


@pytest.mark.parametrize(
    ("embedded", "mapped", "words"),
    [
        (25, 75, "a quarter of the stored vectors re-embedded, the rest mapped"),
        (25, 0, "a quarter of the stored vectors re-embedded, the rest left as it was"),
        (37, 63, "37.0 % of the stored vectors re-embedded, the rest mapped"),
        (0, 60, "60.0 % of the stored vectors mapped, the rest left as it was"),
        (10, 60, "of the stored vectors 10 re-embedded, 60 mapped, 30 left as it was"),
    ],
)
def test_what_becomes_of_stored_vectors_follows_from_their_number(mixed, embedded, mapped, words):
    chosen = mixed.report_data.tasks[1].chosen
    alternative = chosen.model_copy(update={"rows_embedded": embedded, "rows_mapped": mapped})
    assert verdicts.rows_in_words(alternative, 100) == words


def test_a_share_that_an_operator_chose_is_named_with_what_the_gate_said(mixed):
    told = verdicts.because(mixed.report_data.tasks[1])
    assert told[0] == "an operator chose partial"
    assert told[-1].startswith("partial 75 % not judged: not chosen on select: ")


def test_the_dip_of_a_backfill_is_said(mixed):
    check = mixed.report_data.tasks[1].check
    quo = check.status_quo.overall.at[1]

    def dip(*points):
        served = tuple(ServingPoint(share=share, naive=naive, merged=merged) for share, naive, merged in points)
        return verdicts.dip_in_words(check.model_copy(update={"during_backfill": served}))

    assert dip() == ""
    assert dip((0.0, 0.3, quo - 0.05), (1.0, 0.9, quo)) == (
        f"Merged search is lowest at the start, at {100 * (quo - 0.05):.1f} %, 5.0 points below the status quo; "
        "mixed search at the start, at 30.0 %."
    )
    assert "lowest when 25 % is done" in dip((0.0, None, quo + 0.02), (0.25, None, quo + 0.01))
    assert "never below the status quo; the models' dimensions differ" in dip((0.0, None, quo), (1.0, None, quo))


def test_a_reviewer_is_named_with_the_reason_whatever_they_chose(carried):
    filled = carried.report_data.tasks[2]
    for choice in ("approve", "backfill"):
        reviewed = replace(filled, review=Review(choice=choice, by="Ada", reason="the flips are look-alikes"))
        assert verdicts.because(reviewed)[0] == f"Ada decided: {choice} (the flips are look-alikes)"
        assert "an operator" not in " ".join(verdicts.because(reviewed))


def test_an_operator_comes_before_the_conditions(carried):
    rejected, filled = carried.report_data.tasks[1:3]
    assert verdicts.because(rejected)[0] == "an operator rejected it"
    assert verdicts.because(filled)[0] == "an operator chose backfill"
    assert verdicts.because(filled)[-1] == "backfill not judged: not needed: keep costs less and passes"


def test_a_rejection_says_what_failed(refused):
    (reason,) = verdicts.because(refused.report_data.tasks[0])
    assert reason.startswith("first model fails: mAP@R")
    assert verdicts.verdict_in_words(refused.report_data.tasks[0]) == "no champion yet"


@pytest.mark.parametrize(
    ("failed", "words"), [((), "meets all 2 conditions"), ((0,), "fails one condition of 2"), ((0, 1), "fails two")]
)
def test_a_strategy_is_judged_in_a_phrase(failed, words):
    conditions = tuple(
        Condition(
            name=str(each), figure=0, bound=None, limit=0, passed=each not in failed, words="", needs_queries=None
        )
        for each in range(2)
    )
    judged = Way(strategy="keep", share=None, passed=not failed, conditions=conditions, why_not=None)
    assert verdicts.judged_in_words(judged).startswith(words)


def test_a_strategy_that_cannot_be_says_why():
    judged = Way(strategy="keep", share=None, passed=False, conditions=(), why_not="another dimension")
    assert verdicts.judged_in_words(judged) == "ruled out: another dimension"
