"""Both metrics against loops, on whatever may be given: absent classes, ties, single items, unusable input."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_metrics import map_at_r_by_hand, unit

from csd_core.retrieval import metrics
from csd_core.retrieval.metrics import map_at_r, recall_at
from csd_core.system.errors import CompatibilityError

NAMES = ["a", "b", "c", "d", "e"]
CORNERS = unit([[1, 0], [0, 1], [1, 1], [1, -1], [-1, 0]])
"""So few different vectors that ties are common; (0, 0) is added as a sixth."""


@st.composite
def searches(draw):
    """Queries and rows of a few classes, any of which either side may lack; some queries are rows."""
    vectors = np.concatenate([CORNERS, np.zeros((1, 2), np.float32)])
    rows = draw(st.integers(0, 8))
    asked = draw(st.integers(0, 8))
    row_labels = np.array(draw(st.lists(st.sampled_from(NAMES), min_size=rows, max_size=rows)), "U1")
    query_labels = np.array(draw(st.lists(st.sampled_from(NAMES), min_size=asked, max_size=asked)), "U1")
    place = st.integers(0, len(vectors) - 1)
    gallery = vectors[draw(st.lists(place, min_size=rows, max_size=rows))].reshape(rows, 2)
    queries = vectors[draw(st.lists(place, min_size=asked, max_size=asked))].reshape(asked, 2)
    own = np.array(draw(st.lists(st.integers(-1, rows - 1), min_size=asked, max_size=asked)), np.intp)
    for query, row in enumerate(own):
        if row >= 0:
            queries[query], query_labels[query] = gallery[row], row_labels[row]
    return queries, gallery, query_labels, row_labels, own


def hits_by_hand(queries, gallery, query_labels, gallery_labels, own, k):
    """Hit, miss, or None where no hit is possible."""
    found = []
    for i, query in enumerate(queries):
        others = [j for j in range(len(gallery)) if j != own[i]]
        right = [float(query @ gallery[j]) for j in others if gallery_labels[j] == query_labels[i]]
        wrong = [float(query @ gallery[j]) for j in others if gallery_labels[j] != query_labels[i]]
        found.append(sum(each >= max(right) - 1e-6 for each in wrong) < k if right else None)
    return found


def both(queries, gallery, query_labels, gallery_labels, own, *, k=(1, 2, 20)):
    labels = {"query_labels": query_labels, "gallery_labels": gallery_labels, "own": own}
    return recall_at(queries, gallery, **labels, k=k), map_at_r(queries, gallery, **labels)


@settings(max_examples=120)
@given(search=searches(), data=st.data())
def test_both_metrics_equal_loops_in_any_order_of_rows_and_any_size_of_blocks(search, data):
    queries, gallery, query_labels, row_labels, own = search
    recall, precision = both(*search)
    for column, k in enumerate((1, 2, 20)):
        expected = hits_by_hand(queries, gallery, query_labels, row_labels, own, k)
        assert recall.possible.tolist() == [each is not None for each in expected]
        assert recall.hits[:, column].tolist() == [bool(each) for each in expected]
        counted = [each for each in expected if each is not None]
        assert (recall.queries, recall.excluded) == (len(counted), len(expected) - len(counted))
        assert recall.at(k) == (np.mean(counted) if counted else 0.0)
    np.testing.assert_allclose(precision, map_at_r_by_hand(queries, gallery, query_labels, row_labels, own))
    assert (~np.isnan(precision)).tolist() == recall.possible.tolist()

    rows = np.array(data.draw(st.permutations(range(len(gallery)))), np.intp)
    asked = np.array(data.draw(st.permutations(range(len(queries)))), np.intp)
    place = np.append(np.argsort(rows), -1)  # -1 stays -1
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(metrics, "block_length", lambda _: data.draw(st.integers(1, 5)))
        again = both(queries[asked], gallery[rows], query_labels[asked], row_labels[rows], place[own[asked]])
    np.testing.assert_array_equal(again[0].rank, recall.rank[asked])
    np.testing.assert_allclose(again[1], precision[asked])


@pytest.mark.parametrize("absent", NAMES)
def test_a_class_that_the_gallery_lacks_takes_no_other_query_with_it(absent):
    labels = np.array([name for name in NAMES if name != absent])
    rows = np.eye(5, dtype=np.float32)[[name != absent for name in NAMES]]
    found = recall_at(np.eye(5), rows, query_labels=NAMES, gallery_labels=labels)
    assert (found.queries, found.excluded, found.at(1)) == (4, 1, 1.0)
    precision = map_at_r(np.eye(5), rows, query_labels=NAMES, gallery_labels=labels)
    assert [np.isnan(each) for each in precision] == [name == absent for name in NAMES]


def test_k_beyond_the_rows_finds_every_query_that_counts():
    found = recall_at(np.eye(2), np.eye(2), query_labels=["a", "b"], gallery_labels=["b", "b"], k=(3,))
    assert (found.queries, found.excluded, found.at(3)) == (1, 1, 1.0)


def test_an_empty_gallery_lets_no_query_count():
    for rows in (np.empty((0, 2)), np.empty((0, 2), np.float64)):
        found = recall_at(np.eye(2), rows, query_labels=["a", "b"], gallery_labels=[])
        assert (found.queries, found.excluded) == (0, 2)
        assert np.isnan(map_at_r(np.eye(2), rows, query_labels=["a", "b"], gallery_labels=[])).all()


def test_a_zero_vector_ties_with_every_row_so_it_misses():
    found = recall_at(np.zeros((1, 2)), np.eye(2), query_labels=["a"], gallery_labels=["a", "b"], k=(1, 2))
    assert (found.at(1), found.at(2)) == (0.0, 1.0)


def test_the_type_and_the_layout_of_arrays_change_nothing():
    rng = np.random.default_rng(1)
    vectors, labels = rng.integers(-3, 4, (40, 6)), rng.integers(0, 5, 40)
    plain, precision = both(vectors.astype(np.float32), vectors.astype(np.float32), labels, labels, np.arange(40))
    wide = np.zeros((80, 12))
    wide[::2, ::2] = vectors
    given = [vectors, vectors.astype(np.float64), wide[::2, ::2], np.asfortranarray(vectors), vectors.tolist()]
    for each in (*given, vectors.astype(np.float16), vectors.astype(object)):
        for names in (labels, labels.tolist(), labels.astype(np.uint8), labels.astype(np.float64)):
            found, again = both(each, each, names, names, np.arange(40).tolist())
            np.testing.assert_array_equal(found.rank, plain.rank)
            np.testing.assert_array_equal(again, precision)


BAD_VECTORS = {
    "NaN": ([[np.nan, 1.0], [0.0, 1.0]], "1 of 2 vectors are not finite .*number 0; embed them again"),
    "infinite": ([[0.0, 1.0], [0.0, np.inf]], "1 of 2 vectors are not finite .*number 1"),
    "minus infinite": ([[0.0, -np.inf], [0.0, np.nan]], "2 of 2 vectors are not finite"),
    "beyond float32": ([[1e300, 0.0], [0.0, 1.0]], "not finite"),
    "too long": (np.full((2, 2), 3e38, np.float32), "not finite"),
    "text": ([["a", "b"], ["c", "d"]], "no matrix of real numbers"),
    "ragged": ([[1.0], [1.0, 2.0]], "no matrix of real numbers"),
    "complex": ([[1j, 1.0], [0.0, 1.0]], "no matrix of real numbers"),
    "one vector": ([1.0, 0.0], "an array of 2 entries is no matrix"),
    "a number": (1.0, "an array of no entries is no matrix"),
    "three axes": (np.ones((2, 2, 1)), "an array of 2 x 2 x 1 entries is no matrix"),
    "other dimension": (np.ones((2, 3)), "must be N x D with the same D"),
}


@pytest.mark.parametrize("side", ["queries", "gallery"])
@pytest.mark.parametrize("name", BAD_VECTORS)
def test_vectors_that_cannot_be_compared_are_refused_in_one_line(name, side):
    vectors, message = BAD_VECTORS[name]
    given = {"queries": np.eye(2), "gallery": np.eye(2), side: vectors}
    refuse(message, query_labels=["a", "b"], gallery_labels=["a", "b"], **given)


def refuse(message, *, queries, gallery, k=(1,), **labels):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(CompatibilityError, match=message) as refused:
            recall_at(queries, gallery, k=k, **labels)
        assert "\n" not in str(refused.value)
        if k == (1,):
            with pytest.raises(CompatibilityError, match=message):
                map_at_r(queries, gallery, **labels)


BAD_LABELS = {
    "mixed": (["a", 1], "is no list of texts or of numbers; give one kind"),
    "None": (["a", None], "is no list of texts or of numbers"),
    "bytes": (np.array([b"a", b"b"]), "is no list of texts or of numbers"),
    "nested": ([["a"], ["b"]], "is no list of texts or of numbers"),
    "two axes": (np.array([["a"], ["b"]]), "is no list of texts or of numbers"),
    "one text": ("ab", "is no list of texts or of numbers"),
    "NaN": ([1.0, np.nan], "labels: one is not finite"),
    "huge": ([1 << 70, 1], "are too large, or end in NUL"),
    "ends in NUL": (["a", "a\0"], "are too large, or end in NUL"),
    "too few": (["a"], "labels for 2 queries, .* for 2 gallery rows: give one label for each"),
    "numbers beside texts": ([1, 2], "labels are .*numbers.*: give one kind"),
    "many mixed": (["a long name of a class"] * 5 + [1], r"\.\.\. is no list"),
}


@pytest.mark.parametrize("side", ["query_labels", "gallery_labels"])
@pytest.mark.parametrize("name", BAD_LABELS)
def test_labels_that_cannot_be_compared_are_refused_in_one_line(name, side):
    labels, message = BAD_LABELS[name]
    given = {"query_labels": ["a", "b"], "gallery_labels": ["a", "b"], side: labels}
    refuse(message, queries=np.eye(2), gallery=np.eye(2), **given)


@pytest.mark.parametrize("other", [np.uint64, np.float64])
def test_whole_numbers_that_two_types_would_round_are_refused_and_those_of_one_are_compared(other):
    near = [1 << 60, (1 << 60) + 1]
    labels = {"query_labels": near, "gallery_labels": near[::-1]}
    assert recall_at(np.eye(2), np.eye(2), **labels, k=(1,)).at(1) == 0
    labels["gallery_labels"] = np.array(near, other)
    refuse("cannot be compared exactly", queries=np.eye(2), gallery=np.eye(2), **labels)


@settings(max_examples=80)
@given(search=searches(), data=st.data())
def test_the_rows_of_a_querys_own_group_are_left_out_as_if_they_were_not_there(search, data):
    queries, gallery, query_labels, row_labels, _ = search
    number = st.integers(0, 4)
    groups = np.array(data.draw(st.lists(number, min_size=len(gallery), max_size=len(gallery))), np.intp)
    own = np.array(data.draw(st.lists(st.integers(-1, 4), min_size=len(queries), max_size=len(queries))), np.intp)
    recall = recall_at(
        queries, gallery, query_labels=query_labels, gallery_labels=row_labels, k=(1, 2), own=own, groups=groups
    )
    precision = map_at_r(queries, gallery, query_labels=query_labels, gallery_labels=row_labels, own=own, groups=groups)
    for each in range(len(queries)):
        left = groups != own[each]
        alone = {"query_labels": query_labels[each : each + 1], "gallery_labels": row_labels[left]}
        expected = recall_at(queries[each : each + 1], gallery[left], **alone, k=(1, 2))
        assert recall.possible[each] == expected.possible[0]
        assert recall.hits[each].tolist() == expected.hits[0].tolist()
        np.testing.assert_allclose(precision[each], map_at_r(queries[each : each + 1], gallery[left], **alone)[0])


@settings(max_examples=60)
@given(search=searches(), data=st.data())
def test_groups_of_one_give_the_figures_without_groups_to_the_bit(search, data):
    queries, gallery, query_labels, row_labels, own = search
    numbers = np.array(data.draw(st.permutations(range(10, 10 + len(gallery)))), np.intp)
    known = np.where(own < 0, -1, np.append(numbers, -1)[own])
    labels = {"query_labels": query_labels, "gallery_labels": row_labels}
    for measure in (lambda **given: recall_at(queries, gallery, **labels, **given).rank, map_at_r):
        given = {} if measure is not map_at_r else {"queries": queries, "gallery": gallery, **labels}
        plain, grouped = measure(**given, own=own), measure(**given, own=known, groups=numbers)
        assert plain.tobytes() == grouped.tobytes()


@pytest.mark.parametrize("groups", [[0], [0.0, 1.0], ["a", "b"]])
def test_groups_that_are_not_one_whole_number_for_each_row_are_refused(groups):
    labels = {"query_labels": ["a", "b"], "gallery_labels": ["a", "b"]}
    refuse("groups: give 2 whole numbers", queries=np.eye(2), gallery=np.eye(2), own=[0, 1], groups=groups, **labels)


@pytest.mark.parametrize("own", [[0, 2], [-2, 0], [0], [0.0, 1.0], [[0], [1]], ["a", "b"]])
def test_own_rows_that_do_not_exist_are_refused(own):
    labels = {"query_labels": ["a", "b"], "gallery_labels": ["a", "b"]}
    refuse("own: ", queries=np.eye(2), gallery=np.eye(2), own=own, **labels)


@pytest.mark.parametrize("k", [(0,), (1, -1), (1.5,), ("1",)])
def test_a_k_below_one_is_refused(k):
    labels = {"query_labels": ["a", "b"], "gallery_labels": ["a", "b"]}
    refuse("give whole numbers of at least 1", queries=np.eye(2), gallery=np.eye(2), k=k, **labels)
