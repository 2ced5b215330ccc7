from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import situation_of, synthetic_evidence, unit, upgrade_with

from csd_core.retrieval.gallery import Gallery
from csd_core.retrieval.metrics import recall_at
from csd_core.system.errors import CompatibilityError
from csd_core.upgrade.backfill.orders import area_under
from csd_core.upgrade.compatibility import compare, compare_queries, paired, partial_curves, recalls_under, today
from csd_core.upgrade.evaluation_data import EvaluationData
from csd_core.upgrade.strategies import Backfill, Keep, PartialBackfill, offered

KEEP_THE_REST = upgrade_with(rest="keep")
ENDS = (Keep(), Backfill())


def by_cosine(plans):
    """Plans whose rows all compete by cosine."""
    return plans


def search(queries, rows, labels):
    return recall_at(queries, rows, query_labels=labels, gallery_labels=labels, own=np.arange(len(rows)))


def compared(evaluation, strategies=ENDS):
    return compare(evaluation, situation_of(evaluation), strategies, by_cosine)


def cross_test(evaluation, situation):
    return compare_queries(evaluation, situation, (), by_cosine).cross_test


def shuffled(evaluation, seed, names=lambda label: label):
    """The same items in another order, with other names of classes and tasks."""
    order = np.random.default_rng(seed).permutation(len(evaluation.labels))
    place = np.cumsum(evaluation.old) - 1
    stored = evaluation.stored.take(place[order][evaluation.old[order]])
    rows = np.array([names(label) for label in stored.labels])
    return EvaluationData(
        labels=np.array([names(label) for label in evaluation.labels])[order],
        tasks=evaluation.tasks[order],
        splits=evaluation.splits[order],
        old=evaluation.old[order],
        stored=replace(stored, labels=rows),
        positions=np.arange(len(stored)),
        active={model: vectors[order] for model, vectors in evaluation.active.items()},
        model=evaluation.model,
        candidate=evaluation.candidate[order],
        asked=np.arange(len(order)),
    )


def test_each_way_to_serve_is_measured_on_the_rows_it_would_serve():
    seen = synthetic_evidence()
    quo, (keep, backfill) = compared(seen)
    mixed = seen.candidate.copy()
    mixed[seen.old] = seen.stored.vectors
    assert quo.overall.at[1] == search(seen.champion, seen.champion, seen.labels).at(1)
    assert keep.measured.overall.at[1] == search(seen.candidate, mixed, seen.labels).at(1)
    assert backfill.measured.overall.at[1] == search(seen.candidate, seen.candidate, seen.labels).at(1)
    assert keep.measured.overall.at[1] != backfill.measured.overall.at[1]
    assert (keep.rows_embedded, backfill.rows_embedded) == (0, 48)


def test_the_cross_test_is_of_old_items_on_stored_rows():
    seen = synthetic_evidence()
    cross, old, stored = cross_test(seen, situation_of(seen)), seen.labels[seen.old], seen.stored.vectors
    assert cross.self_test == search(stored, stored, old).at(1)
    assert cross.cross_test == search(seen.candidate[seen.old], stored, old).at(1)
    assert cross.paired.difference == pytest.approx(cross.cross_test - cross.self_test)


def test_differences_are_those_of_the_recalls():
    quo, alternatives = compared(synthetic_evidence())
    for alternative in alternatives:
        against = alternative.against_status_quo
        assert set(against) == {"overall", "old", "task:t1"}
        change = alternative.measured.overall.at[1] - quo.overall.at[1]
        assert against["overall"].difference == pytest.approx(change)
        assert against["old"].difference == pytest.approx(alternative.measured.old.at[1] - quo.old.at[1])


def test_only_some_items_may_ask_while_all_are_rows():
    seen = synthetic_evidence()
    some = np.arange(1, 80, 3)
    quo, (keep, _) = compared(seen.asking(some))
    hits = search(seen.champion, seen.champion, seen.labels).hits[some, 0]
    assert quo.overall.queries == len(some)
    assert quo.overall.at[1] == hits.mean()
    assert sum(keep.against_status_quo[f"task:{task}"].queries for task in ("t1",)) == int(seen.old[some].sum())
    own = seen.tasks[some] == "t1"
    of_t1 = search(seen.champion[seen.old], seen.champion[seen.old], seen.labels[seen.old])
    place = np.cumsum(seen.old) - 1
    assert quo.own_gallery["t1"] == of_t1.hits[place[some[own]], 0].mean()
    assert cross_test(seen.asking(some), situation_of(seen)).paired.queries == int(own.sum())


def test_a_task_none_of_whose_queries_counts_has_no_figure():
    seen = synthetic_evidence()
    labels = np.where(seen.old, seen.labels, np.char.add("alone-", np.arange(80).astype(str)))
    quo, _ = compared(replace(seen, labels=labels))
    assert set(quo.own_gallery) == set(quo.per_task) == {"t1"}


def test_a_first_model_has_no_status_quo():
    seen = synthetic_evidence(champion=False)
    quo, alternatives = compared(seen)
    assert (quo, cross_test(seen, situation_of(seen))) == (None, None)
    assert [alternative.strategy for alternative in alternatives] == ["none"]
    assert alternatives[0].measured.old is None


def test_another_dimension_rules_out_all_but_backfill_and_the_cross_test():
    seen = synthetic_evidence(candidate_dimension=4)
    quo, alternatives = compared(seen, offered(KEEP_THE_REST.partial, "random"))
    *ruled_out, backfill = [each for each in alternatives if each.strategy != "merge"]
    keep, adapt, *partial = ruled_out
    assert quo is not None
    assert cross_test(seen, situation_of(seen)) is None
    assert {each.why_not for each in (keep, *partial)} == {"the gallery has 6 dimensions, the candidate 4"}
    assert adapt.why_not == "no model of the gallery's rows is retained"
    assert [each.name for each in ruled_out] == ["keep", "adapt", "partial 25 %", "partial 50 %"]
    assert not any(each.possible or each.measured for each in ruled_out)
    assert backfill.possible


def test_only_old_items_leaves_no_new_group():
    seen = synthetic_evidence()
    just_old = replace(
        seen,
        labels=seen.labels[seen.old],
        tasks=seen.tasks[seen.old],
        splits=seen.splits[seen.old],
        old=seen.old[seen.old],
        active={"m1": seen.champion[seen.old]},
        candidate=seen.candidate[seen.old],
        asked=np.arange(48),
    )
    quo, _ = compared(just_old)
    assert quo.new is None


def test_a_champion_without_old_items_in_the_split_is_compared_on_new_ones():
    seen = synthetic_evidence()
    none = replace(
        seen, old=np.zeros(80, np.bool_), stored=seen.stored.take(np.arange(0)), positions=np.empty(0, np.intp)
    )
    quo, alternatives = compare(none, situation_of(seen), (Keep(),), by_cosine)
    assert quo.old is None
    assert cross_test(none, situation_of(seen)) is None
    assert set(alternatives[0].against_status_quo) == {"overall"}


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), noise=st.floats(0.1, 2.0))
def test_the_order_of_items_and_the_names_of_classes_change_nothing(seed, noise):
    seen = synthetic_evidence(seed=seed, noise=noise)
    other = shuffled(seen, seed + 1, names={"0": "pear", "1": "fig", "2": "yam", "3": "apple", "4": "kiwi"}.__getitem__)
    assert compared(seen) == compared(other)
    assert cross_test(seen, situation_of(seen)) == cross_test(other, situation_of(other))


@settings(max_examples=10)
@given(seed=st.integers(0, 10_000))
def test_the_order_of_items_changes_no_partial_backfill(seed):
    seen = synthetic_evidence(seed=seed)
    other = shuffled(seen, seed + 1)
    one, two = (situation_of(each, settings=KEEP_THE_REST) for each in (seen, other))
    assert partial_curves(seen, one) == partial_curves(other, two)
    strategies = [PartialBackfill(share=share, order="class-mean", rest="keep") for share in (0.2, 0.6)]
    assert compare(seen, one, strategies, by_cosine) == compare(other, two, strategies, by_cosine)


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000))
def test_a_candidate_identical_to_the_champion_loses_no_query(seed):
    seen = synthetic_evidence(seed=seed)
    same = replace(seen, candidate=seen.champion, model="m1")
    situation = situation_of(same, candidate="m1", settings=KEEP_THE_REST)
    quo, alternatives = compare(same, situation, (Keep(), *offered(KEEP_THE_REST.partial, "random")[3:]), by_cosine)
    assert [each.name for each in alternatives] == ["keep", "partial 25 %", "partial 50 %", "backfill"]
    for alternative in alternatives:
        assert alternative.measured == quo
        assert all(pair.lost == pair.gained == 0 for pair in alternative.against_status_quo.values())
    assert cross_test(same, situation).paired.difference == 0


def test_stored_vectors_must_belong_to_old_items():
    seen = synthetic_evidence()
    with pytest.raises(CompatibilityError, match="3 stored vectors for 48 old items"):
        replace(seen, stored=seen.stored.take(np.arange(3)))


def test_flips_are_counted_one_query_at_a_time():
    labels = ["a", "a", "b", "b"]
    good = unit(np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1.0]]))
    bad = unit(np.array([[1, 0], [0, 1], [1, 0.05], [0.1, 1.0]]))
    flips = paired(search(good, good, labels), search(bad, bad, labels), np.ones(4, bool))
    assert (flips.queries, flips.lost, flips.gained) == (4, 4, 0)


def test_partial_curves_equal_a_loop_over_orders_and_shares():
    seen = synthetic_evidence(noise=0.1)
    situation = situation_of(seen, settings=KEEP_THE_REST)
    curves = partial_curves(seen, situation)
    stored = np.flatnonzero(seen.old)
    for curve in curves.curves:
        assert curve.shares == (0.0, 0.25, 0.5, 1.0)
        first = situation.order(curve.order)
        for share, recall in zip(curve.shares, curve.recalls, strict=True):
            rows = seen.candidate.copy()
            for place in first[round(share * len(first)) :]:
                rows[stored[place]] = seen.stored.vectors[place]
            assert recall == search(seen.candidate, rows, seen.labels).at(1)
        heights = [(low + high) / 2 for low, high in zip(curve.recalls, curve.recalls[1:], strict=False)]
        widths = [right - left for left, right in zip(curve.shares, curve.shares[1:], strict=False)]
        assert curve.area == pytest.approx(sum(height * width for height, width in zip(heights, widths, strict=True)))
    assert [curve.order for curve in curves.curves] == ["random", "class", "class-mean", "residual"]
    assert curves.order == max(curves.curves, key=lambda curve: curve.area).order
    assert len({curve.recalls for curve in curves.curves}) > 1
    assert curves.rest == "keep"


def test_the_ends_of_a_curve_are_keep_and_backfill():
    seen = synthetic_evidence()
    situation = situation_of(seen, settings=KEEP_THE_REST)
    for curve in partial_curves(seen, situation).curves:
        assert curve.recalls[0] == recalls_under(seen, [Keep().plan(situation)])[0]
        assert curve.recalls[-1] == recalls_under(seen, [Backfill().plan(situation)])[0]


def test_there_is_no_curve_without_old_rows_shares_or_a_way_to_serve_the_rest():
    seen = synthetic_evidence()
    assert partial_curves(seen, situation_of(seen, settings=upgrade_with(shares=[], rest="keep"))) is None
    assert partial_curves(seen, situation_of(seen, settings=upgrade_with(rest="adapt"))) is None
    nothing = replace(
        seen, old=np.zeros(80, np.bool_), stored=seen.stored.take(np.arange(0)), positions=np.empty(0, np.intp)
    )
    assert partial_curves(nothing, situation_of(seen, settings=KEEP_THE_REST)) is None


def test_the_area_is_that_of_trapezoids():
    assert area_under([0, 0.25, 1], [0.4, 0.8, 0.9]) == pytest.approx(0.25 * 0.6 + 0.75 * 0.85)
    assert area_under([0, 1], [1, 1]) == 1


def test_evidence_of_an_empty_gallery_is_the_candidates_rows():
    seen = synthetic_evidence(champion=False)
    assert today(seen) is None
    (piece,) = seen.way_after(Keep().plan(situation_of(seen))).pieces
    assert seen.vectors(piece.source)[0] is seen.candidate
    assert len(Gallery.empty().groups()) == 0
