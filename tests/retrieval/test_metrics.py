import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from csd_core.retrieval import metrics
from csd_core.retrieval.continual import recall_of_groups
from csd_core.retrieval.metrics import largest, map_at_r, recall_at
from csd_core.system.errors import CompatibilityError


def unit(values):
    array = np.asarray(values, np.float32)
    return array / np.linalg.norm(array, axis=-1, keepdims=True)


def random_set(seed, *, rows=60, classes=7, dimension=5):
    rng = np.random.default_rng(seed)
    return unit(rng.standard_normal((rows, dimension))), rng.integers(0, classes, rows)


def recall_by_hand(queries, gallery, query_labels, gallery_labels, k, own):
    hits = []
    for i, query in enumerate(queries):
        right, wrong = [], []
        for j, row in enumerate(gallery):
            if j != own[i]:
                (right if gallery_labels[j] == query_labels[i] else wrong).append(float(query @ row))
        if right:
            hits.append(sum(w >= max(right) - 1e-6 for w in wrong) < k)
    return float(np.mean(hits)) if hits else 0.0


def map_at_r_by_hand(queries, gallery, query_labels, gallery_labels, own):
    values = []
    for i, query in enumerate(queries):
        rows = [j for j in range(len(gallery)) if j != own[i]]
        rows.sort(key=lambda j: (-float(query @ gallery[j]), gallery_labels[j] == query_labels[i]))
        right = [gallery_labels[j] == query_labels[i] for j in rows]
        r = sum(right)
        values.append(sum(np.mean(right[: n + 1]) for n in range(r) if right[n]) / r if r else np.nan)
    return np.array(values)


@pytest.mark.parametrize("k", [1, 2, 5, 10])
@pytest.mark.parametrize("seed", range(4))
def test_recall_equals_a_loop_over_queries(seed, k):
    vectors, labels = random_set(seed)
    own = np.arange(len(vectors))
    found = recall_at(vectors, vectors, query_labels=labels, gallery_labels=labels, k=(k,), own=own)
    assert found.at(k) == recall_by_hand(vectors, vectors, labels, labels, k, own)


def test_recall_of_queries_that_are_no_rows_equals_a_loop():
    gallery, labels = random_set(1)
    queries, asked = random_set(2, rows=23)
    found = recall_at(queries, gallery, query_labels=asked, gallery_labels=labels, k=(1, 5))
    for k in (1, 5):
        assert found.at(k) == recall_by_hand(queries, gallery, asked, labels, k, np.full(23, -1))


@pytest.mark.parametrize("seed", range(4))
def test_map_at_r_equals_a_loop_over_queries(seed):
    vectors, labels = random_set(seed, classes=4)
    own = np.arange(len(vectors))
    found = map_at_r(vectors, vectors, query_labels=labels, gallery_labels=labels, own=own)
    np.testing.assert_allclose(found, map_at_r_by_hand(vectors, vectors, labels, labels, own))


def test_small_blocks_change_nothing(monkeypatch):
    vectors, labels = random_set(3)
    own = np.arange(len(vectors))
    whole = recall_at(vectors, vectors, query_labels=labels, gallery_labels=labels, own=own)
    precision = map_at_r(vectors, vectors, query_labels=labels, gallery_labels=labels, own=own)
    monkeypatch.setattr(metrics, "block_length", lambda _: 7)
    blocked = recall_at(vectors, vectors, query_labels=labels, gallery_labels=labels, own=own)
    np.testing.assert_array_equal(whole.rank, blocked.rank)
    again = map_at_r(vectors, vectors, query_labels=labels, gallery_labels=labels, own=own)
    np.testing.assert_allclose(precision, again)


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000))
def test_the_order_of_rows_and_queries_changes_nothing(seed):
    vectors, labels = random_set(seed, rows=40)
    rng = np.random.default_rng(seed + 1)
    rows, asked = rng.permutation(40), rng.permutation(40)
    position = np.argsort(rows)
    plain = recall_at(vectors, vectors, query_labels=labels, gallery_labels=labels, own=np.arange(40))
    shuffled = recall_at(
        vectors[asked],
        vectors[rows],
        query_labels=labels[asked],
        gallery_labels=labels[rows],
        own=position[asked],
    )
    np.testing.assert_array_equal(plain.rank[asked], shuffled.rank)


def test_a_tie_counts_against_us():
    gallery = unit([[1, 0], [1, 0]])
    found = recall_at(unit([[1, 0]]), gallery, query_labels=["a"], gallery_labels=["a", "b"], k=(1, 2))
    assert found.at(1) == 0.0
    assert found.at(2) == 1.0
    assert map_at_r(unit([[1, 0]]), gallery, query_labels=["a"], gallery_labels=["a", "b"]).tolist() == [0.0]


def test_a_class_with_one_image_is_left_out_and_counted():
    vectors = unit([[1, 0], [1, 0.1], [0, 1]])
    labels = ["a", "a", "alone"]
    found = recall_at(vectors, vectors, query_labels=labels, gallery_labels=labels, own=[0, 1, 2])
    assert (found.queries, found.excluded, found.at(1)) == (2, 1, 1.0)
    assert np.isnan(map_at_r(vectors, vectors, query_labels=labels, gallery_labels=labels, own=[0, 1, 2])[2])


def test_nothing_to_search_gives_no_query_that_counts():
    found = recall_at(np.empty((0, 2)), unit([[1, 0]]), query_labels=[], gallery_labels=["a"])
    assert (found.queries, found.at(1)) == (0, 0.0)


def test_dimensions_that_differ_are_refused_with_the_remedy():
    with pytest.raises(CompatibilityError, match="queries are 1 x 2, the gallery 1 x 3: .* re-embed the gallery"):
        recall_at(np.ones((1, 2)), np.ones((1, 3)), query_labels=["a"], gallery_labels=["a"])


def test_missing_labels_are_refused():
    with pytest.raises(CompatibilityError, match="1 labels for 2 queries"):
        recall_at(np.ones((2, 2)), np.ones((1, 2)), query_labels=["a"], gallery_labels=["a"])


def test_groups_share_a_gallery():
    vectors = unit([[1, 0], [1, 0.2], [1, 0.1], [0, 1], [0.1, 1]])
    labels, groups = ["a", "a", "b", "b", "b"], np.array(["t1", "t1", "t2", "t2", "t2"])
    pooled = recall_at(vectors, vectors, query_labels=labels, gallery_labels=labels, own=np.arange(5))
    assert recall_of_groups(pooled, groups) == {"t1": 0.0, "t2": pytest.approx(2 / 3)}


def test_a_group_without_a_query_that_counts_has_no_figure():
    vectors = unit([[1, 0], [1, 0.1], [0, 1], [0.1, 1]])
    labels, groups = ["a", "a", "b", "c"], np.array(["t1", "t1", "t2", "t2"])
    pooled = recall_at(vectors, vectors, query_labels=labels, gallery_labels=labels, own=np.arange(4))
    assert recall_of_groups(pooled, groups) == {"t1": 1.0}


def test_the_largest_of_long_rows_are_those_of_a_sort():
    rng = np.random.default_rng(0)
    for length, count in ((10, 10), (11, 10), (999, 1), (1000, 20), (5003, 7), (640, 200)):
        values = rng.integers(0, 50, (4, length)).astype(np.float32)  # many are equal
        values[1, : length // 2] = -np.inf
        found = np.sort(largest(values, count), axis=1)
        np.testing.assert_array_equal(found, np.sort(values, axis=1)[:, -count:])
