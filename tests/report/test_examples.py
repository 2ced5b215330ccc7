import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from csd_core.report.examples import compare
from csd_core.retrieval import parts
from csd_core.retrieval.parts import Part, nearest
from csd_core.upgrade.sampling import choose


def unit(rows, dimensions=6, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(rows, dimensions)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def served(vectors):
    """Items that are queries and rows at once."""
    return [Part(queries=vectors, rows=vectors)]


@pytest.mark.parametrize("block", [3, 7, 1000])
def test_nearest_agrees_with_sorting_every_row(monkeypatch, block):
    monkeypatch.setattr(parts, "GALLERY_BLOCK", block)
    rows, own = unit(40), np.array([0, 5, 39])

    found = nearest(served(rows), own, own=own, count=5)

    for query, position in enumerate(own):
        order = sorted(range(40), key=lambda row: -float(rows[position] @ rows[row]))
        order.remove(position)
        assert found[query].tolist() == order[:5]


def test_the_first_of_equal_rows_wins_in_any_block(monkeypatch):
    monkeypatch.setattr(parts, "GALLERY_BLOCK", 2)
    rows = np.tile(unit(1), (7, 1))
    assert nearest(served(rows), np.array([0]), own=np.array([0]), count=4).tolist() == [[1, 2, 3, 4]]


def test_a_small_gallery_gives_fewer_neighbours_and_never_the_query():
    rows = unit(3)
    found = nearest(served(rows), np.arange(3), own=np.arange(3), count=5)
    assert found.shape == (3, 2)
    assert all(query not in neighbours for query, neighbours in enumerate(found.tolist()))


def test_lost_hits_are_shown_first_then_gained_ones_each_spread_over_classes():
    outcomes = np.array(["kept", "lost", "lost", "gained", "lost", "missed"])
    labels = np.array(["a", "a", "a", "b", "b", "a"])
    possible = np.ones(6, bool)
    assert choose(outcomes, labels, possible=possible, count=10).tolist() == [1, 4, 2, 3, 0, 5]
    assert choose(outcomes, labels, possible=possible, count=3).tolist() == [1, 4, 3]


@given(
    outcomes=st.lists(st.sampled_from(["lost", "gained", "kept", "missed"]), max_size=30),
    count=st.integers(0, 12),
    classes=st.integers(1, 4),
)
def test_lost_and_gained_hits_share_the_places(outcomes, count, classes):
    labels = np.array([f"c{place % classes}" for place in range(len(outcomes))], np.str_)
    given_outcomes = np.array(outcomes, np.str_)
    shown = given_outcomes[choose(given_outcomes, labels, possible=np.ones(len(outcomes), bool), count=count)].tolist()
    there = {name: outcomes.count(name) for name in ("lost", "gained")}
    assert len(shown) == min(count, len(outcomes))
    assert shown.count("lost") >= min(there["lost"], -(-count // 2))
    assert shown.count("gained") >= min(there["gained"], count // 2)
    assert shown.count("lost") + shown.count("gained") == min(count, sum(there.values()))


def test_queries_that_cannot_hit_are_not_shown():
    outcomes, labels = np.array(["missed", "kept"]), np.array(["a", "b"])
    assert choose(outcomes, labels, possible=np.array([False, True]), count=5).tolist() == [1]


def test_an_upgrade_counts_what_it_lost_and_gained():
    labels = np.array(["a", "a", "b", "b"])
    pairs = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], np.float32)
    crossed = np.array([[1, 0], [0, 1], [1, 0], [0, 1]], np.float32)

    told = compare(
        task="t2",
        previous="t1",
        strategy="keep",
        labels=labels,
        groups=np.arange(len(labels)),
        before=served(pairs),
        after=served(crossed),
        examples=2,
        neighbours=2,
    )

    assert (told.queries, told.hits, told.lost, told.gained) == (4, 4, 4, 0)
    assert told.recalls == (1.0, 0.0)
    assert [each.outcome for each in told.shown] == ["lost", "lost"]
    first = told.shown[0]
    assert [(each.item, each.hit) for each in first.before] == [(1, True), (2, False)]
    assert [(each.item, each.hit) for each in first.after] == [(2, False), (1, True)]
    assert told.items == {0, 1, 2, 3}


def test_no_examples_are_shown_where_none_are_wanted():
    rows = unit(6)
    labels = np.array(list("aabbcc"))
    told = compare(
        task="t2",
        previous="t1",
        strategy="keep",
        labels=labels,
        groups=np.arange(len(labels)),
        before=served(rows),
        after=served(rows),
        examples=0,
        neighbours=3,
    )
    assert told.shown == ()
    assert (told.lost, told.gained) == (0, 0)


def test_an_upgrade_without_queries_has_no_recall():
    told = compare(
        task="t2",
        previous="t1",
        strategy="partial 25 %",
        labels=np.array(["a", "b"]),
        groups=np.arange(2),
        before=served(unit(2)),
        after=served(unit(2)),
        examples=2,
        neighbours=1,
    )
    assert told.recalls is None
    assert told.shown == ()


def test_examples_are_sorted_by_what_became_of_them():
    labels = np.array(["a", "a", "b", "b"])
    pairs = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], np.float32)
    half = np.array([[1, 0], [1, 0], [0.8, 0.6], [0, 1]], np.float32)
    told = compare(
        task="t2",
        previous="t1",
        strategy="keep",
        labels=labels,
        groups=np.arange(len(labels)),
        before=served(pairs),
        after=served(half),
        examples=4,
        neighbours=1,
    )
    assert [each.item for each in told.of("lost")] == [2]
    assert [each.item for each in told.of("kept", "missed")] == [0, 3, 1]
    assert told.of("gained") == ()
    assert told.shown == (*told.of("lost"), *told.of("kept", "missed"))
