import re

import pytest
from check_reports import first_model_report
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from csd_core.params.file import load_params
from csd_core.params.upgrade import Policy
from csd_core.records.by_class import ByClass, ClassQueries, ClassRecall, QueriesByClass
from csd_core.records.check import Alternative, CheckReport, Measurement, Paired, Recalls
from csd_core.records.verdict import Promoted, Rejected
from csd_core.report.advice.limits import admission, other_ways
from csd_core.report.advice.next_steps import next_steps
from csd_core.report.advice.training import Training
from csd_core.upgrade.gate import judge

CLASSES = ("shoe", "boot", "hat", "a `tick`")
STRATEGIES = ("keep", "adapt", "backfill")


def recalls(queries, hits, precision):
    share = hits / queries if queries else 0.0
    return Recalls(queries=queries, excluded=0, at={1: share, 5: share, 10: share}, map_at_r=precision)


def measured(queries, hits, precision):
    found = recalls(queries, hits, precision)
    return Measurement(overall=found, old=found, new=found, per_task={}, own_gallery={"t1": found.at[1]})


@st.composite
def classes(draw, *, first):
    worst = []
    for name in draw(st.lists(st.sampled_from(CLASSES), unique=True)):
        queries = draw(st.integers(1, 30))
        before = None if first else draw(st.integers(0, queries))
        worst.append(
            ClassRecall(name=name, images=40, queries=queries, before=before, after=draw(st.integers(0, queries)))
        )
    worst.sort(key=lambda each: each.recall)
    return ByClass(never_found=sum(not each.after for each in worst), worst=tuple(worst))


@st.composite
def alternatives(draw, strategy, quo, number):
    first = strategy == "none"
    possible = first or strategy == "backfill" or draw(st.booleans())
    pairs = {}
    queries, hits = quo
    if not first:
        lost = draw(st.integers(0, hits))
        gained = draw(st.integers(0, queries - hits))
        hits = hits - lost + gained
        both = Paired(queries=queries, lost=lost, gained=gained)
        pairs = {"overall": both, "old": both, "task:t1": both}
    return Alternative(
        strategy=strategy,
        share=None,
        possible=possible,
        why_not=None if possible else "the gallery has 10 dimensions, the candidate 8",
        rows_embedded=1000 * number,
        rows_mapped=0,
        measured=measured(queries, hits, draw(st.floats(0, 1))) if possible else None,
        against_status_quo=pairs if possible else {},
        by_class=draw(st.none() | classes(first=first)) if possible else None,
    )


@st.composite
def reports(draw):
    first = draw(st.booleans())
    queries = draw(st.integers(0, 400))
    quo = queries, draw(st.integers(0, queries))
    names = ("none",) if first else STRATEGIES
    fewest = tuple(ClassQueries(name=name, images=9, queries=2) for name in CLASSES[: draw(st.integers(0, 3))])
    return CheckReport(
        task="t2",
        split="gate",
        candidate="c" * 64,
        champion=None if first else "a" * 64,
        pending=(),
        status_quo=None if first else measured(*quo, 0.7),
        cross_test=None,
        alternatives=tuple(draw(alternatives(name, quo, number)) for number, name in enumerate(names)),
        rehearsal=None,
        partial=None,
        adapter_methods={},
        during_backfill=(),
        best_own_gallery={},
        queries_by_class=QueriesByClass(classes=9, few=len(fewest), fewest=fewest),
    )


POLICIES = st.builds(
    Policy,
    allowed=st.lists(st.sampled_from(STRATEGIES), unique=True),
    confidence=st.just(0.95),
    resamples=st.just(100),
    seed=st.just(1),
    max_regression=st.floats(0, 0.1),
    max_task_regression=st.floats(0, 0.1),
    max_total_regression=st.floats(0, 0.1),
    min_gain=st.floats(-0.1, 0.6),
    max_excess_flips=st.floats(0, 0.1),
    max_map_regression=st.floats(0, 0.1),
    require_ecc=st.booleans(),
    min_recall=st.floats(0.5, 1),
    min_map_at_r=st.floats(0.5, 1),
)
SHARES = st.floats(0, 1)
TRAININGS = st.none() | st.integers(1, 12).flatmap(
    lambda epochs: st.builds(
        Training,
        recipe=st.sampled_from(["first", "later"]),
        rate=st.just(0.001),
        best_epoch=st.integers(1, epochs),
        recalls=st.lists(SHARES, min_size=epochs, max_size=epochs).map(tuple),
        losses=st.lists(st.floats(0.1, 5), min_size=epochs, max_size=epochs).map(tuple),
    )
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(
    report=reports(),
    policy=POLICIES,
    training=TRAININGS,
    decision=st.sampled_from(["auto", "auto", "reject"]),
    place=st.sampled_from(["project", "branch", "review", "alone"]),
)
def test_two_to_five_steps_in_order_of_promise_and_each_is_true(report, policy, training, decision, place):
    verdict = judge(report, policy, decision)
    if isinstance(verdict, Promoted):
        return
    steps = next_steps(report, verdict, policy, training=training, gate_share=0.2, place=place)
    kinds = [step.kind for step in steps]
    assert 2 <= len(steps) <= 5
    assert len(set(kinds)) == len(kinds)
    assert kinds[-1] == "accept"
    assert [step.promise for step in steps] == sorted((step.promise for step in steps), reverse=True)
    assert all(step.words[0].isupper() and step.words.endswith(".") for step in steps)
    named = {name for step in steps for name in re.findall("“(.*?)”", step.words)}
    assert named <= set(CLASSES)
    if "train" in kinds:
        assert training is not None
    if "allow" in kinds:
        way = other_ways(report, policy)
        wider = policy.model_copy(update={"allowed": [*policy.allowed, way.strategy]})
        assert judge(report, wider).outcome == "promoted"
    if "limit" in kinds:
        found = admission(report, policy)
        assert judge(report, found.policy).outcome == "promoted"
        for name, value in found.changes.items():
            assert getattr(found.policy, name) == value != getattr(policy, name)
            assert f"gate.{name}: " in next(step.words for step in steps if step.kind == "limit")
    if "leave it to the gate" in kinds:
        assert decision == "reject"


def rejected_first_model(*, recall=0.5, **figures):
    return first_model_report(measured(100, round(100 * recall), 0.9), **figures)


@pytest.fixture
def policy(request):
    return load_params(request.config.rootpath / "params.yaml").gate


def told(report, policy, *, training=None, place="project"):
    verdict = judge(report, policy)
    assert isinstance(verdict, Rejected)
    steps = next_steps(report, verdict, policy, training=training, gate_share=0.2, place=place)
    return {step.kind: step.words for step in steps}


def trained(recalls, *, best=None, losses=()):
    best = recalls.index(max(recalls)) + 1 if best is None else best
    return Training(recipe="first", rate=0.003, best_epoch=best, recalls=tuple(recalls), losses=tuple(losses))


def test_a_first_model_learns_how_far_it_is_from_the_bar_and_which_classes_are_worst(policy):
    worst = ClassRecall(name="hat", images=30, queries=10, before=None, after=1)
    steps = told(rejected_first_model(by_class=ByClass(never_found=0, worst=(worst,))), policy)
    assert list(steps) == ["images", "limit", "accept"]
    assert "least so “hat” (10.0 % of 10, 30 images)" in steps["images"]
    assert "`gate.min_recall: 0.5` (now 0.8) would promote it as first model." in steps["limit"]
    assert "Then 50 of 100 queries miss their class, most often “hat” (10.0 % of 10, 30 images)." in steps["limit"]
    assert steps["accept"] == ("Take it anyway: write `decisions: {t1: none}` into params.yaml and run `csd run`.")


def test_more_epochs_are_asked_for_only_where_the_curve_says_so(policy):
    report = rejected_first_model()
    rising, flat = [0.1 * epoch for epoch in range(8)], [0.5, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6]
    assert told(report, policy, training=trained(rising))["train"] == (
        "Train longer. Recall@1 on select still rises, 45.0 % and then 65.0 % in the last 2 epochs: set "
        "`training.first.epochs: 16` (now 8)."
    )
    assert "train" not in told(report, policy, training=trained(flat))
    assert told(report, policy, training=trained([0.5, 0.6]))["train"].startswith("Train longer. The last of 2 epochs")


def rejected_upgrade(*, lost, gained, strategies=("keep", "backfill")):
    pairs = Paired(queries=1000, lost=lost, gained=gained)
    return rejected_first_model().model_copy(
        update={
            "task": "t2",
            "champion": "a" * 64,
            "status_quo": measured(1000, 900, 0.9),
            "alternatives": tuple(
                Alternative(
                    strategy=strategy,
                    share=None,
                    possible=True,
                    why_not=None,
                    rows_embedded=5000 * number,
                    rows_mapped=0,
                    measured=measured(1000, 900 - lost + gained, 0.9),
                    against_status_quo={"overall": pairs},
                )
                for number, strategy in enumerate(strategies)
            ),
        }
    )


def test_a_gain_that_no_model_can_reach_is_said_first(policy):
    strict = policy.model_copy(update={"min_gain": 0.5})
    report = rejected_upgrade(lost=0, gained=40)
    steps = told(report, strict, training=trained([0.1 * epoch for epoch in range(8)]))
    assert next(iter(steps)) == "limit"
    assert steps["limit"].startswith("No model can gain more than 50.0 points where search finds 90.0 % today.")
    assert "Then 0 of 1,000 queries that hit today miss, and 40 that miss today hit." in steps["limit"]


def test_where_more_queries_would_decide_images_come_first_with_their_number(policy):
    report = rejected_upgrade(lost=1, gained=5)
    steps = told(report, policy, training=trained([0.1 * epoch for epoch in range(8)]))
    assert next(iter(steps)) == "images"
    asked, more = re.search(r"About ([\d,]+) gate queries .* so about ([\d,]+) more images", steps["images"]).groups()
    assert int(more.replace(",", "")) == (int(asked.replace(",", "")) - 1000) * 5


def test_a_way_that_only_the_policy_forbids_is_known_to_help(policy):
    report = rejected_upgrade(lost=0, gained=40)
    report = report.model_copy(
        update={
            "alternatives": (
                report.alternatives[0].model_copy(
                    update={"hits_against_backfill": Paired(queries=1000, lost=200, gained=0)}
                ),
                report.alternatives[1],
            )
        }
    )
    steps = told(report, policy.model_copy(update={"allowed": ["keep"]}))
    assert next(iter(steps)) == "allow"
    assert "Set `gate.allowed: [keep, backfill]`; it costs 5,000 rows re-embedded" in steps["allow"]
    assert "limit" not in steps


def test_a_rejection_by_an_operator_is_first_left_to_the_gate_again(policy):
    report = rejected_upgrade(lost=0, gained=40)
    steps = next_steps(report, judge(report, policy, "reject"), policy, training=None, gate_share=None, place="project")
    assert "`decisions: {t2: auto}`" in steps[0].words


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("review", 'settings={"choice": "first-model", "by": "YOUR NAME", "reason": "WHY"}'),
        ("branch", "`csd publish`"),
        ("alone", "`csd gate replay check.json --policy policy.yaml`"),
    ],
)
def test_the_last_step_is_a_command_for_where_the_person_is(policy, place, words):
    assert words in told(rejected_first_model(), policy, place=place)["accept"]
