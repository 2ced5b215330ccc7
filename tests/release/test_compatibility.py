import numpy as np
import pytest

from csd_core.errors import CompatibilityError
from csd_core.release.compatibility import compare, paired
from csd_core.release.evidence import Evidence
from csd_core.release.strategies import STRATEGIES, Backfill, Keep, NoGallery, strategy_named
from csd_core.retrieval.gallery import Gallery
from csd_core.retrieval.metrics import recall_at


def unit(values):
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def evidence(*, candidate_dimension=6, champion=True, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.array([str(i % 5) for i in range(80)])
    tasks = np.where(labels < "3", "t1", "t2")
    old = tasks == "t1"
    centres = rng.standard_normal((5, 6))[labels.astype(int)]
    by_champion = unit(centres + 0.7 * rng.standard_normal((80, 6)))
    by_candidate = unit(np.resize((centres + 0.5 * rng.standard_normal((80, 6))).T, (candidate_dimension, 80)).T)
    return Evidence(
        labels=labels,
        tasks=tasks,
        old=old if champion else np.zeros(80, bool),
        stored=by_champion[old] if champion else np.empty((0, 0), np.float32),
        champion=by_champion if champion else None,
        candidate=by_candidate,
    )


def search(queries, rows, labels):
    return recall_at(queries, rows, query_labels=labels, gallery_labels=labels, self_index=np.arange(len(rows)))


def test_each_way_to_serve_is_measured_on_the_rows_it_would_serve():
    seen = evidence()
    quo, cross, alternatives = compare(seen, STRATEGIES, gallery_rows=500)
    mixed = seen.candidate.copy()
    mixed[seen.old] = seen.stored
    assert quo.overall.at[1] == search(seen.champion, seen.champion, seen.labels).at(1)
    keep, backfill = alternatives
    assert keep.measured.overall.at[1] == search(seen.candidate, mixed, seen.labels).at(1)
    assert backfill.measured.overall.at[1] == search(seen.candidate, seen.candidate, seen.labels).at(1)
    assert (keep.rows_embedded, backfill.rows_embedded) == (0, 500)
    old = seen.labels[seen.old]
    assert cross.self_test == search(seen.stored, seen.stored, old).at(1)
    assert cross.cross_test == search(seen.candidate[seen.old], seen.stored, old).at(1)


def test_differences_are_those_of_the_recalls():
    quo, cross, alternatives = compare(evidence(), STRATEGIES, gallery_rows=500)
    for alternative in alternatives:
        against = alternative.against_status_quo
        assert set(against) == {"overall", "old", "task:t1"}
        change = alternative.measured.overall.at[1] - quo.overall.at[1]
        assert against["overall"].difference == pytest.approx(change)
        assert against["old"].difference == pytest.approx(alternative.measured.old.at[1] - quo.old.at[1])
    assert cross.paired.difference == pytest.approx(cross.cross_test - cross.self_test)


def test_a_first_model_has_no_status_quo():
    quo, cross, alternatives = compare(evidence(champion=False), STRATEGIES, gallery_rows=0)
    assert (quo, cross) == (None, None)
    assert [alternative.strategy for alternative in alternatives] == ["none"]
    assert alternatives[0].measured.old is None


def test_another_dimension_rules_out_keep_and_the_cross_test_but_not_backfill():
    quo, cross, (keep, backfill) = compare(evidence(candidate_dimension=4), STRATEGIES, gallery_rows=500)
    assert quo is not None
    assert cross is None
    assert keep.why_not == "the gallery has 6 dimensions, the candidate 4"
    assert not keep.possible
    assert backfill.possible


def test_only_old_items_leaves_no_new_group():
    seen = evidence()
    old = seen.old
    just_old = Evidence(
        labels=seen.labels[old],
        tasks=seen.tasks[old],
        old=old[old],
        stored=seen.stored,
        champion=seen.champion[old],
        candidate=seen.candidate[old],
    )
    quo, _, _ = compare(just_old, STRATEGIES, gallery_rows=1)
    assert quo.new is None


def test_a_champion_without_old_items_in_the_split_is_compared_on_new_ones():
    seen = evidence()
    none = Evidence(
        labels=seen.labels,
        tasks=seen.tasks,
        old=np.zeros(80, bool),
        stored=np.empty((0, 6), np.float32),
        champion=seen.champion,
        candidate=seen.candidate,
    )
    quo, cross, alternatives = compare(none, STRATEGIES, gallery_rows=0)
    assert quo.old is None
    assert cross is None
    assert set(alternatives[0].against_status_quo) == {"overall"}


def test_a_permutation_of_items_changes_nothing():
    seen = evidence()
    order = np.random.default_rng(5).permutation(80)
    stored = np.zeros_like(seen.champion)
    stored[seen.old] = seen.stored
    shuffled = Evidence(
        labels=seen.labels[order],
        tasks=seen.tasks[order],
        old=seen.old[order],
        stored=stored[order][seen.old[order]],
        champion=seen.champion[order],
        candidate=seen.candidate[order],
    )
    one, other = (compare(each, STRATEGIES, gallery_rows=9) for each in (seen, shuffled))
    assert one[1] == other[1]
    assert [each.against_status_quo for each in one[2]] == [each.against_status_quo for each in other[2]]


def test_stored_vectors_must_belong_to_old_items():
    seen = evidence()
    with pytest.raises(CompatibilityError, match="3 stored vectors for 48 old items"):
        Evidence(
            labels=seen.labels,
            tasks=seen.tasks,
            old=seen.old,
            stored=seen.stored[:3],
            champion=seen.champion,
            candidate=seen.candidate,
        )


def test_flips_are_counted_one_query_at_a_time():
    labels = ["a", "a", "b", "b"]
    good = unit(np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1.0]]))
    bad = unit(np.array([[1, 0], [0, 1], [1, 0.05], [0.1, 1.0]]))
    flips = paired(search(good, good, labels), search(bad, bad, labels), np.ones(4, bool))
    assert (flips.queries, flips.lost, flips.gained) == (4, 4, 0)


def rows(model, names, dimension=3):
    vectors = unit(np.random.default_rng(len(names)).standard_normal((len(names), dimension)))
    column = np.array(["x"] * len(names))
    return Gallery.embedded(
        ids=np.array(names), labels=column, tasks=column, splits=column, vectors=vectors, model=model
    )


def test_keep_leaves_old_rows_and_lets_the_candidate_search_their_space():
    old, new = rows("m1", ["a", "b"]), rows("m2", ["c"])
    after = Keep().apply(old, new, lambda ids: pytest.fail(f"embedded {ids}"))
    assert after.ids.tolist() == ["a", "b", "c"]
    assert after.embedded_by.tolist() == ["m1", "m1", "m2"]
    assert (after.query_model, after.searchable_spaces) == ("m2", ("m1", "m2"))
    np.testing.assert_array_equal(after.vectors[:2], old.vectors)


def test_backfill_embeds_every_old_row_anew():
    old, new = rows("m1", ["a", "b"], dimension=3), rows("m2", ["c"], dimension=4)
    after = Backfill().apply(old, new, lambda ids: np.eye(4, dtype=np.float32)[: len(ids)])
    assert after.embedded_by.tolist() == ["m2"] * 3
    assert after.searchable_spaces == ("m2",)
    assert after.vectors.shape == (3, 4)


def test_a_first_model_takes_no_gallery_over():
    new = rows("m1", ["a"])
    assert NoGallery().apply(Gallery.empty(), new, lambda _: new.vectors) is new
    with pytest.raises(CompatibilityError, match="strategy none: the gallery has 1 rows"):
        NoGallery().apply(new, rows("m2", ["b"]), lambda _: new.vectors)
    assert NoGallery().why_not(evidence()) == "there is a gallery already"


def test_new_rows_must_name_their_model():
    with pytest.raises(CompatibilityError, match="new rows name no model"):
        Keep().apply(rows("m1", ["a"]), Gallery.empty(), lambda _: np.empty((0, 0)))


def test_strategies_are_found_by_name_and_ordered_by_cost():
    assert [strategy.name for strategy in STRATEGIES] == ["keep", "backfill"]
    assert strategy_named("none").name == "none"
