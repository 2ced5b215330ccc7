"""What must hold for every report, policy and set of vectors."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gate_reports import report as report_of
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import UPGRADE, situation_of, synthetic_evidence, unit, upgrade_with

from csd_core.params.file import load_params
from csd_core.records.adapters import AdapterFits
from csd_core.records.check import Alternative, CheckReport, Measurement, Paired, Recalls
from csd_core.records.verdict import Ledger, LedgerEntry, Promoted, Rejected
from csd_core.retrieval.adapter import Adapter, AdapterMetadata
from csd_core.retrieval.gallery import Gallery, Provenance
from csd_core.upgrade.check import check
from csd_core.upgrade.evaluation_data import EvaluationData
from csd_core.upgrade.gate import judge
from csd_core.upgrade.gate_rules import lower_bound
from csd_core.upgrade.mapping.adapters import CandidateAdapters
from csd_core.upgrade.mapping.fitted import write_adapter
from csd_core.upgrade.mapping.maps import PairSums

POLICY = load_params(Path(__file__).parents[2] / "params.yaml").gate.model_copy(update={"resamples": 100})
STRICT = POLICY.model_copy(
    update={
        "max_regression": 0.15,  # what so few queries can prove
        "max_task_regression": 0.15,
        "max_total_regression": 0.0,
        "max_excess_flips": 0.15,
        "max_map_regression": 0.0,
    }
)

SHARES = (0.1, 0.25, 0.5)
COST = {"keep": 0.0, "adapt": 0.01, "backfill": 1.0}
QUERIES = 400


# --- any report -------------------------------------------------------------------------------------------------------


def measured(own):
    recalls = Recalls(queries=QUERIES, excluded=0, at={1: 0.9, 5: 0.9, 10: 0.9}, map_at_r=0.8)
    return Measurement(overall=recalls, old=recalls, new=recalls, per_task={"t1": 0.9}, own_gallery={"t1": own})


few = st.sampled_from([0, 4, 12, 30])
flips = st.builds(lambda lost, gained: Paired(queries=QUERIES, lost=lost, gained=gained), few, few)
limits = st.sampled_from([0.0, 0.02, 0.04, 0.06, 0.12])
limits = limits.filter(bool)  # 0.0 cannot be met even by what loses nothing, so it would change the choice on select


@st.composite
def alternatives(draw, strategy, share=None):
    overall, old, task = draw(flips), draw(flips), draw(flips)
    return Alternative(
        strategy=strategy,
        share=share,
        possible=True,
        why_not=None,
        rows_embedded=0,
        rows_mapped=0,
        measured=measured(draw(st.sampled_from([0.9, 0.84]))),
        against_status_quo={"overall": overall, "old": old, "task:t1": task},
    )


@st.composite
def clear(draw, strategy, share=None):
    """An outcome on `select` that passes or fails under every limit above 0, so that none changes the choice."""
    outcome = Paired(queries=QUERIES, **draw(st.sampled_from([{"lost": 0, "gained": 60}, {"lost": 200, "gained": 0}])))
    against = dict.fromkeys(("overall", "old", "task:t1"), outcome)
    return draw(alternatives(strategy, share)).model_copy(update={"against_status_quo": against})


@st.composite
def reports(draw):
    """Any outcome on gate and select, whether likely or not; `keep` may not have been measured on select."""
    ways = (("keep", None), ("adapt", None), *(("partial", share) for share in SHARES), ("backfill", None))
    rehearsed = [draw(clear(name, share)) for name, share in ways if name != "keep" or draw(st.booleans())]
    return report_of(*(draw(alternatives(name, share)) for name, share in ways), rehearsed=rehearsed)


def cost(verdict):
    return COST[verdict.strategy] if verdict.share is None else verdict.share


@pytest.mark.parametrize("limit", ["max_regression", "max_task_regression", "max_excess_flips"])
@settings(max_examples=100)
@given(report=reports(), bounds=st.tuples(limits, limits))
def test_by_the_same_choice_a_wider_limit_neither_rejects_what_a_narrower_one_promotes_nor_costs_more(
    limit, report, bounds
):
    narrow, wide = (
        judge(report, POLICY.model_copy(update={limit: bound, "min_gain": -0.05})) for bound in sorted(bounds)
    )
    if isinstance(narrow, Promoted):
        assert isinstance(wide, Promoted)
        assert cost(wide) <= cost(narrow)


@settings(max_examples=50)
@given(report=reports())
def test_a_promoted_strategy_meets_every_condition_and_no_cheaper_one_does(report):
    verdict = judge(report, POLICY)
    passing = [each for each in verdict.judged if each.passed]
    assert isinstance(verdict, Promoted) == bool(passing)
    if passing:
        assert (verdict.strategy, verdict.share) == (passing[0].strategy, passing[0].share)
        assert all(condition.passed for condition in passing[0].conditions)
    else:
        assert verdict.reasons


@given(pairs=flips)
def test_the_bound_never_flatters(pairs):
    assert -1 <= lower_bound(pairs, POLICY) <= pairs.difference


def test_an_outcome_without_flips_is_the_less_certain_the_fewer_queries_there_were():
    bounds = [lower_bound(Paired(queries=queries, lost=0, gained=0), POLICY) for queries in (7, 70, 7000)]
    assert bounds[0] < bounds[1] < bounds[2] < 0
    assert lower_bound(Paired(queries=7, lost=7, gained=0), POLICY) == -1.0


# --- any vectors ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("adapters")


def with_adapter(evaluation, scratch):
    """A ridge adapter from the stored rows' space to the candidate's, fitted on all items."""
    file = scratch / "adapter.onnx"
    source, target = evaluation.champion, evaluation.candidate
    metadata = AdapterMetadata(
        source="m1", target="m2", method="ridge", source_dimension=source.shape[1], dimension=target.shape[1]
    )
    write_adapter(PairSums.of(source, target).ridge(1e-3), file, metadata)
    return CandidateAdapters(
        record=AdapterFits(fits=(), why_not=None),
        chosen={Provenance("m1", ""): Adapter.load(file, threads=1)},
        anchors={},
        folder=None,
    )


def checked(evaluation, *, adapters=None, candidate="m2", best=None, champion="m1", upgrade=UPGRADE):
    return check(
        "t2",
        gate=evaluation,
        select=evaluation,
        situation=situation_of(evaluation, adapters=adapters, candidate=candidate, settings=upgrade),
        champion=champion if evaluation.champion is not None else None,
        pending=(),
        best_own_gallery=best or {},
    )


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000))
def test_a_candidate_identical_to_the_champion_is_never_called_regressed(seed):
    seen = synthetic_evidence(seed=seed)
    same = replace(seen, candidate=seen.champion, model="m1")
    report = checked(same, candidate="m1", upgrade=upgrade_with(rest="keep"))
    report = report.model_copy(update={"best_own_gallery": report.status_quo.own_gallery})
    verdict = judge(report, STRICT.model_copy(update={"require_ecc": True}))
    assert isinstance(verdict, Rejected)
    failed = {
        each.name: [condition.name for condition in each.conditions if not condition.passed] for each in verdict.judged
    }
    assert failed == {"backfill": ["min_gain"]}  # no other way gains anything on select


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000))
def test_where_ties_are_let_through_an_identical_candidate_is_kept(seed):
    seen = synthetic_evidence(seed=seed)
    report = checked(
        replace(seen, candidate=seen.champion, model="m1"), candidate="m1", upgrade=upgrade_with(rest="keep")
    )
    verdict = judge(report, STRICT.model_copy(update={"min_gain": -0.15}))
    assert isinstance(verdict, Promoted)
    assert verdict.strategy == "keep"


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000), noise=st.floats(0.2, 1.5))
def test_what_a_way_loses_beyond_a_backfill_is_what_it_loses_less_what_the_backfill_loses(seed, noise):
    report = checked(synthetic_evidence(seed=seed, noise=noise), upgrade=upgrade_with(rest="keep"))
    lost = {each.name: each.against_status_quo["overall"].lost for each in report.alternatives if each.possible}
    for each in report.alternatives:
        if each.possible:
            excess = each.hits_against_backfill
            assert excess.lost - excess.gained == lost[each.name] - lost["backfill"]
            assert excess.queries == each.against_status_quo["overall"].queries
    assert (report.alternatives[-1].hits_against_backfill.lost, report.alternatives[-1].strategy) == (0, "backfill")


def trained(seed, rows=120):
    """Evidence whose champion separates five classes well."""
    seen = synthetic_evidence(seed=seed, rows=rows)
    rng = np.random.default_rng(seed + 1)
    centres = np.eye(6)[seen.labels.astype(int)]
    by_champion = unit(centres + 0.1 * rng.standard_normal((rows, 6)))
    return replace(seen, active={"m1": by_champion}, stored=replace(seen.stored, vectors=by_champion[seen.old]))


def random_vectors(seed, rows):
    return unit(np.random.default_rng([seed, 2]).standard_normal((rows, 6)))


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000))
def test_a_candidate_of_random_vectors_is_never_promoted_over_a_trained_champion(seed, scratch):
    seen = replace(trained(seed), candidate=random_vectors(seed, 120))
    verdict = judge(checked(seen, adapters=with_adapter(seen, scratch)), POLICY)
    assert isinstance(verdict, Rejected)
    assert not verdict.inconclusive
    assert {each.strategy for each in verdict.ways} == {"keep", "adapt", "merge", "partial", "backfill"}
    assert [each.strategy for each in verdict.judged] == ["backfill"]


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000))
def test_a_candidate_of_random_vectors_is_never_a_first_model(seed):
    seen = synthetic_evidence(seed=seed, champion=False)
    random = replace(seen, candidate=random_vectors(seed, 80))
    assert isinstance(judge(checked(random), POLICY), Rejected)
    centres = np.eye(6)[seen.labels.astype(int)]
    good = replace(seen, candidate=unit(centres + 0.05 * random_vectors(seed, 80)))
    assert isinstance(judge(checked(good), POLICY), Promoted)


def unchanged(name):
    return str(name)


def permuted(evaluation, seed, *, labels=unchanged, tasks=unchanged, ids=unchanged):
    """The same items in another order, with other names."""
    order = np.random.default_rng(seed).permutation(len(evaluation.labels))
    place = np.cumsum(evaluation.old) - 1
    stored = evaluation.stored.take(place[order][evaluation.old[order]])
    return EvaluationData(
        labels=np.array([labels(each) for each in evaluation.labels])[order],
        tasks=np.array([tasks(each) for each in evaluation.tasks])[order],
        splits=evaluation.splits[order],
        old=evaluation.old[order],
        stored=replace(
            stored,
            ids=np.array([ids(each) for each in stored.ids]),
            labels=np.array([labels(each) for each in stored.labels]),
            tasks=np.array([tasks(each) for each in stored.tasks]),
        ),
        positions=np.arange(len(stored)),
        active={model: vectors[order] for model, vectors in evaluation.active.items()},
        model=evaluation.model,
        candidate=evaluation.candidate[order],
        asked=np.arange(len(order)),
    )


@settings(max_examples=10)
@given(seed=st.integers(0, 10_000), noise=st.floats(0.2, 1.5))
def test_the_order_of_rows_changes_neither_report_nor_verdict(seed, noise, scratch):
    seen = synthetic_evidence(seed=seed, noise=noise)
    adapters = with_adapter(seen, scratch)
    one, two = (checked(each, adapters=adapters) for each in (seen, permuted(seen, seed + 1)))
    assert one == two
    assert judge(one, POLICY) == judge(two, POLICY)


def nameless(report):
    """A report without what lists classes and items by their names; of the classes, what they are counted as."""
    ways = [
        each.model_copy(update={"by_class": each.by_class and counted(each.by_class)}) for each in report.alternatives
    ]
    return report.model_copy(
        update={"alternatives": tuple(ways), "queries_by_class": None, "closer_look": None}
    ), report.queries_by_class and report.queries_by_class.few


def counted(by_class):
    return by_class.never_found, sorted((each.images, each.queries, each.before, each.after) for each in by_class.worst)


@settings(max_examples=10)
@given(seed=st.integers(0, 10_000), noise=st.floats(0.2, 1.5))
def test_other_names_of_classes_and_ids_change_nothing_but_what_is_drawn_at_random(seed, noise, scratch):
    """The orders `random` and `class` are drawn over ids and names as they sort: other names draw another."""
    seen = synthetic_evidence(seed=seed, noise=noise)
    adapters = with_adapter(seen, scratch)
    new = np.random.default_rng(seed).permutation(10_000)
    names = {"0": "pear", "1": "fig", "2": "yam", "3": "apple", "4": "kiwi"}.__getitem__
    other = permuted(seen, seed + 1, labels=names, ids=lambda each: f"n{new[int(each[1:])]}")
    drawn = upgrade_with(orders=["random", "class", "class-mean"])
    settled = upgrade_with(orders=["class-mean"])
    one, two = (checked(each, adapters=adapters, upgrade=settled) for each in (seen, other))
    assert nameless(one) == nameless(two)
    assert judge(one, POLICY) == judge(two, POLICY)
    one, two = (checked(each, adapters=adapters, upgrade=drawn) for each in (seen, other))
    assert (one.status_quo, one.cross_test, one.adapter_methods) == (
        two.status_quo,
        two.cross_test,
        two.adapter_methods,
    )
    whole = [[each for each in nameless(report)[0].alternatives if each.share is None] for report in (one, two)]
    assert whole[0] == whole[1]
    assert one.partial.curves[-1] == two.partial.curves[-1]


@settings(max_examples=5)
@given(seed=st.integers(0, 10_000))
def test_other_names_of_tasks_change_only_those_names(seed):
    seen = synthetic_evidence(seed=seed)
    tasks = {"t1": "zebra", "t2": "ant"}
    settled = upgrade_with(rest="keep")
    one, two = (checked(each, upgrade=settled) for each in (seen, permuted(seen, seed, tasks=tasks.__getitem__)))
    text = one.model_copy(update={"task": "-"}).model_dump_json()
    for old, new in tasks.items():
        text = text.replace(f'"{old}"', f'"{new}"').replace(f"task:{old}", f"task:{new}")
    assert CheckReport.model_validate_json(text) == two.model_copy(update={"task": "-"})


# --- a chain of upgrades ----------------------------------------------------------------------------------------------


def slipping(generation, items=200, per_generation=2):
    """(N, 32) vectors of two classes, of which a few more lie among the other class with every generation."""
    rng = np.random.default_rng(5)
    axis = np.eye(32)[np.arange(items) % 2]
    vectors = axis + 0.01 * rng.standard_normal((items, 32))
    astray = np.arange(generation * per_generation)
    vectors[astray] = axis[astray][:, [1, 0, *range(2, 32)]] + 0.02 * rng.standard_normal((len(astray), 32))
    return unit(vectors)


def upgrades_in_a_row(policy):
    """Ten candidates, each a little worse than the one before; champion, ledger and rows follow the verdicts."""
    items = 200
    labels = np.array(["a", "b"])[np.arange(items) % 2]
    column = np.full(items, "t1")
    ids = np.array([f"i{number:03}" for number in range(items)])
    champion, ledger, promoted = 0, Ledger(entries=()), []
    for candidate in range(11):
        gallery = Gallery.embedded(
            ids=ids,
            labels=labels,
            tasks=column,
            splits=np.full(items, "gate"),
            vectors=slipping(champion),
            model=f"m{champion}",
        )
        seen = EvaluationData(
            labels=labels,
            tasks=column,
            splits=np.full(items, "gate"),
            old=np.ones(items, np.bool_),
            stored=gallery,
            positions=np.arange(items),
            active={f"m{champion}": slipping(champion)},
            model=f"m{candidate}",
            candidate=slipping(candidate),
            asked=np.arange(items),
        )
        report = checked(
            seen,
            best=ledger.best_own_gallery,
            champion=f"m{champion}",
            candidate=f"m{candidate}",
            upgrade=upgrade_with(shares=[]),
        )
        verdict = judge(report, policy)
        served = report.status_quo
        if isinstance(verdict, Promoted):
            champion, served = candidate, report.alternatives[-1].measured
            promoted.append(served.own_gallery["t1"])
        entry = LedgerEntry(
            task=f"t{candidate}",
            candidate=f"m{candidate}",
            outcome=verdict.outcome,
            strategy=None,
            share=None,
            champion=f"m{champion}",
            champion_task=None,
            check="0",
            gallery="0",
            served=served.own_gallery,
        )
        ledger = Ledger(entries=(*ledger.entries, entry))
    return promoted


def test_ten_upgrades_that_each_lose_a_little_are_stopped_by_the_ratchet():
    lenient = POLICY.model_copy(
        update={
            "allowed": ["backfill"],
            "max_regression": 0.04,
            "max_task_regression": 0.04,
            "min_gain": -0.03,
            "max_map_regression": 1.0,
            "max_total_regression": 0.05,
        }
    )
    unbounded = upgrades_in_a_row(lenient.model_copy(update={"max_total_regression": 1.0}))
    assert len(unbounded) == 11
    assert unbounded[0] - unbounded[-1] == pytest.approx(0.10)
    stopped = upgrades_in_a_row(lenient)
    assert len(stopped) == 6
    assert stopped[0] - stopped[-1] == pytest.approx(0.05)
