"""A gallery in parts makes one ranking: against readable loops over every row."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from csd_core.records.ranking import GroupScoring, Identity, Logistic, Offset, Quantile
from csd_core.retrieval.gallery import Provenance
from csd_core.retrieval.metrics import TIE, map_at_r, map_over, recall_at, recall_over
from csd_core.retrieval.parts import Part, nearest, parts_of
from csd_core.system.errors import CompatibilityError

SCORES = [
    Identity(),
    Offset(offset=0.2),
    Logistic(slope=3.0, offset=-1.0),
    Quantile(known=(-1.01, -0.3, 0.4, 1.01), shares=(0.0, 0.3, 0.6, 1.0)),
]


def unit(random, rows, dimensions):
    vectors = random.normal(size=(rows, dimensions))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def scene(seed, *, rows=40, queries=12):
    """Rows of two models of different dimension, dealt at random; the first rows are the queries' own."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 4, rows).astype(str)
    first = random.random(rows) < 0.5
    first[:2] = True, False
    scores = [SCORES[number] for number in random.integers(0, len(SCORES), 2)]
    parts = [
        Part(
            queries=unit(random, queries, d),
            rows=unit(random, int(mine.sum()), d),
            positions=np.flatnonzero(mine),
            score=score,
        )
        for d, mine, score in zip((5, 7), (first, ~first), scores, strict=True)
    ]
    return parts, labels, labels[:queries]


def scored(parts, query, *, less=0.0):
    """Position -> score of every row, a row at a time."""
    return {
        int(position): float(part.score(float(part.queries[query] @ row) - less))
        for part in parts
        for position, row in zip(part.positions, part.rows, strict=True)
    }


@settings(max_examples=60)
@given(seed=st.integers(0, 10_000))
def test_recall_and_precision_are_those_of_a_loop(seed):
    parts, labels, asked = scene(seed)
    own = np.arange(len(asked))
    recall = recall_over(parts, query_labels=asked, gallery_labels=labels, own=own)
    precision = map_over(parts, query_labels=asked, gallery_labels=labels, own=own)
    for query, label in enumerate(asked):
        wrong, right = scored(parts, query), scored(parts, query, less=float(TIE))
        others = [row for row in range(len(labels)) if row != query]
        rights = [row for row in others if labels[row] == label]
        assert recall.possible[query] == bool(rights)
        if not rights:
            assert np.isnan(precision[query])
            continue
        best = max(right[row] for row in rights)
        assert recall.rank[query] == sum(wrong[row] >= best for row in others if labels[row] != label)
        order = sorted(others, key=lambda row: -(right[row] if labels[row] == label else wrong[row]))
        hits = [labels[row] == label for row in order[: len(rights)]]
        expected = sum(hit * sum(hits[: place + 1]) / (place + 1) for place, hit in enumerate(hits)) / len(rights)
        assert precision[query] == pytest.approx(expected)


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), cut=st.integers(1, 39))
def test_a_gallery_that_one_model_searches_by_cosine_is_the_same_in_any_parts(seed, cut):
    random = np.random.default_rng(seed)
    rows, labels = unit(random, 40, 6), random.integers(0, 3, 40).astype(str)
    own = np.arange(40)
    halves = np.split(random.permutation(40), [cut])
    parts = [Part(queries=rows, rows=rows[half], positions=half) for half in halves]
    whole = recall_at(rows, rows, query_labels=labels, gallery_labels=labels, own=own)
    again = recall_over(parts, query_labels=labels, gallery_labels=labels, own=own)
    np.testing.assert_array_equal(whole.rank, again.rank)
    np.testing.assert_allclose(
        map_over(parts, query_labels=labels, gallery_labels=labels, own=own),
        map_at_r(rows, rows, query_labels=labels, gallery_labels=labels, own=own),
        rtol=1e-12,
    )


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000))
def test_a_map_of_the_only_part_changes_no_order(seed):
    random = np.random.default_rng(seed)
    rows, labels = unit(random, 30, 6), random.integers(0, 3, 30).astype(str)
    own = np.arange(30)
    ranks = [
        recall_over(
            [Part(queries=rows, rows=rows, score=score)], query_labels=labels, gallery_labels=labels, own=own
        ).rank
        for score in SCORES
    ]
    for rank in ranks[1:]:
        np.testing.assert_array_equal(rank, ranks[0])


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 45))
def test_the_nearest_rows_are_those_of_sorting_every_score(seed, count):
    parts, labels, asked = scene(seed)
    found = nearest(parts, np.arange(len(asked)), own=np.arange(len(asked)), count=count)
    assert found.shape == (len(asked), min(count, len(labels) - 1))
    for query in range(len(asked)):
        scores = scored(parts, query)
        others = [row for row in range(len(labels)) if row != query]
        best = sorted(others, key=lambda row: -scores[row])[:count]
        assert [scores[row] for row in found[query]] == pytest.approx([scores[row] for row in best], abs=1e-6)


def test_rows_that_are_searched_alike_are_one_part():
    random = np.random.default_rng(1)
    vectors = unit(random, 6, 4)
    kinds = {
        Provenance("a", ""): np.array([0, 3]),
        Provenance("b", "x"): np.array([1, 4]),
        Provenance("c", ""): np.array([2, 5]),
    }
    old = GroupScoring(embedded_by="b", adapters="x", query_model="b", dimension=3, score=Offset(offset=0.1))
    queries = {"a": unit(random, 2, 4), "b": unit(random, 2, 3)}
    parts = parts_of(vectors, kinds, [old], query_model="a", queries=queries.__getitem__)
    assert [part.positions.tolist() for part in parts] == [[0, 2, 3, 5], [1, 4]]
    assert [part.rows.shape[1] for part in parts] == [4, 3]
    np.testing.assert_array_equal(parts[1].rows, vectors[[1, 4], :3])
    assert parts[1].score == old.score


def test_a_gallery_without_rows_answers_nothing():
    queries = unit(np.random.default_rng(0), 3, 4)
    parts = parts_of(np.zeros((0, 6), np.float32), {}, [], query_model="a", queries=lambda _: queries)
    recall = recall_over(parts, query_labels=list("abc"), gallery_labels=np.empty(0, np.str_))
    assert (recall.queries, recall.excluded) == (0, 3)


def test_parts_must_hold_each_row_once():
    rows = unit(np.random.default_rng(0), 4, 3)
    twice = [
        Part(queries=rows, rows=rows[:2], positions=np.array([0, 1])),
        Part(queries=rows, rows=rows[:2], positions=np.array([1, 2])),
    ]
    with pytest.raises(CompatibilityError, match="4 labels for 4 queries"):
        recall_over(twice, query_labels=list("aabb"), gallery_labels=list("aabb"))
