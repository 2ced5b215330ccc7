"""Search of one table by several models' queries, merged by scores, against a loop over its rows."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from indices import MANY, index_of

from csd_core.live.filters import Filters
from csd_core.live.gallery import LiveGallery
from csd_core.live.index import nearest
from csd_core.live.rules import SearchRules
from csd_core.live.search import Snapshot
from csd_core.records.ranking import GroupScoring, Identity, Logistic, Offset, Quantile
from csd_core.retrieval.gallery import Gallery, Provenance, padded
from csd_core.system.errors import CompatibilityError

KINDS = (Provenance("old", ""), Provenance("old", "map"), Provenance("new", ""))
DIMENSIONS = {"old": 16, "new": 4}
"""Entries of +-1/4 and +-1/2 give unit vectors whose cosines are exact, and many of them equal."""
MAPS = st.one_of(
    st.builds(Identity),
    st.builds(Offset, offset=st.sampled_from([-0.5, -0.25, 0.25, 1.0])),
    st.builds(Logistic, slope=st.sampled_from([0.5, 4.0]), offset=st.sampled_from([-1.0, 2.0])),
    st.just(Quantile(known=(-1.01, -0.2, 0.6, 1.01), shares=(0.0, 0.3, 0.9, 1.0))),
)
WHERES = st.builds(
    Filters,
    label=st.sampled_from([None, ("a",), ("a", "b"), ("nobody",)]),
    embedded_by=st.sampled_from([None, ("old",), ("new",)]),
)


def signs(rows, dimension, seed):
    """(rows, D) vectors of equal entries but for their signs."""
    drawn = np.random.default_rng(seed).choice([-1.0, 1.0], (rows, dimension))
    return (drawn / math.sqrt(dimension)).astype(np.float32)


def rules_of(scores, searched_by):
    """Rules of KINDS: the score of each, and the model whose queries search the rows that were mapped."""
    models = ("old", searched_by, "new")
    scoring = tuple(
        GroupScoring(
            embedded_by=kind.embedded_by,
            adapters=kind.adapters,
            query_model=model,
            dimension=DIMENSIONS[model],
            score=score,
        )
        for kind, model, score in zip(KINDS, models, scores, strict=True)
    )
    return SearchRules(
        query_model="new", dimension=4, spaces={"new": ("new", "old"), "old": ("old", "new")}, scoring=scoring
    )


def brute_force(gallery, rules, queries, *, number, where, k):
    """(score, id, cosine, found by) of the k rows that score highest for a query, one row at a time."""
    found = []
    for row in range(len(gallery)):
        if where.label is not None and gallery.labels[row] not in where.label:
            continue
        if where.embedded_by is not None and gallery.embedded_by[row] not in where.embedded_by:
            continue
        provenance = Provenance(str(gallery.embedded_by[row]), str(gallery.adapters[row]))
        group = rules.scored(provenance)
        model, score = (group.query_model, group.score) if group else (rules.query_model, Identity())
        query = queries[model][number].astype(float)
        cosine = float(np.dot(gallery.vectors[row, : len(query)].astype(float), query))
        found.append((-float(score(cosine)), str(gallery.ids[row]), cosine, model))
    return sorted(found)[:k]


@pytest.fixture(scope="module", autouse=True)
def small_parts_have_cells():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nearest, "FEW", MANY)
        yield


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A live gallery, and the rows of its table: 60 of each kind, the narrower ones with zeros at their ends."""
    root = tmp_path_factory.mktemp("merged")
    live = LiveGallery.open(str(root / "live"), lock=root / "write.lock", root=root)
    number = np.arange(180)
    kind = number % 3
    gallery = Gallery(
        ids=np.array([f"item-{each:03}" for each in np.random.default_rng(1).permutation(180)]),
        labels=np.array(["a", "b", "c"])[number // 2 % 3],
        tasks=np.full(180, "t1"),
        splits=np.full(180, "train"),
        embedded_by=np.array([each.embedded_by for each in KINDS])[kind],
        adapters=np.array([each.adapters for each in KINDS])[kind],
        spaces=np.array(["old", "new", "new"])[kind],
        vectors=np.where((kind == 0)[:, None], signs(180, 16, 2), padded(signs(180, 4, 3), 16)),
        query_model="new",
        searchable_spaces=("old", "new"),
    )
    live.build("g", gallery, origin="pipeline", images=None)
    return live, gallery


def queries_of(count, seed):
    return {model: signs(count, dimension, [seed, dimension]) for model, dimension in DIMENSIONS.items()}


@settings(max_examples=60, deadline=None)
@given(
    scores=st.tuples(MAPS, MAPS, MAPS),
    where=WHERES,
    k=st.sampled_from([1, 3, 20, 59, 200]),
    seed=st.integers(0, 50),
)
def test_a_merged_search_is_a_loop_over_all_rows_whose_scores_are_sorted(table, scores, where, k, seed):
    live, gallery = table
    rules = rules_of(scores, "new")
    queries = queries_of(3, seed)
    hits = Snapshot.load(live, "g", rules).search(queries, k=k, where=where)
    for number in range(3):
        expected = brute_force(gallery, rules, queries, number=number, where=where, k=k)
        assert hits.ids[number].tolist() == [identity for _, identity, _, _ in expected]
        assert hits.found_by[number].tolist() == [model for *_, model in expected]
        np.testing.assert_array_equal(hits.cosines[number], np.array([each for _, _, each, _ in expected], np.float32))
        np.testing.assert_array_equal(hits.scores[number], np.array([-each for each, *_ in expected], np.float32))


@settings(max_examples=15, deadline=None)
@given(scores=st.tuples(MAPS, MAPS, MAPS), where=WHERES, k=st.sampled_from([1, 20, 200]), seed=st.integers(0, 50))
def test_the_index_merges_one_list_for_each_group(table, scores, where, k, seed):
    live, gallery = table
    rules = rules_of(scores, "new")
    queries = queries_of(2, seed)
    opened = Snapshot.load(live, "g", rules, index=index_of(live, "g", rules))
    hits = opened.search(queries, k=k, where=where)
    for number in range(2):
        expected = brute_force(gallery, rules, queries, number=number, where=where, k=200)
        score_of = {identity: -score for score, identity, _, _ in expected}
        count = min(k, len(expected))
        mine = hits.scores[number, :count]
        np.testing.assert_allclose(mine, [-each for each, *_ in expected[:k]], atol=1e-5)
        np.testing.assert_allclose(mine, [score_of[each] for each in hits.ids[number, :count].tolist()], atol=1e-5)
        assert len(set(hits.ids[number, :count].tolist())) == count
        assert set(hits.ids[number, count:].tolist()) <= {""}


@given(score=MAPS, seed=st.integers(0, 50))
@settings(max_examples=20, deadline=None)
def test_one_group_keeps_its_order_to_the_bit_whatever_its_map(table, score, seed):
    live, gallery = table
    if "plain" not in live.tables():
        only = gallery.take(np.flatnonzero(gallery.embedded_by == "new"))
        live.build(
            "plain",
            Gallery.embedded(
                ids=only.ids,
                labels=only.labels,
                tasks=only.tasks,
                splits=only.splits,
                vectors=only.vectors[:, :4],
                model="new",
            ),
            origin="pipeline",
            images=None,
        )
    queries = queries_of(4, seed)["new"]
    plain = Snapshot.load(live, "plain", SearchRules.by_cosine("new", dimension=4)).search(queries, k=30)
    group = GroupScoring(embedded_by="new", adapters="", query_model="new", dimension=4, score=score)
    rules = SearchRules(query_model="new", dimension=4, spaces={"new": ("new",)}, scoring=(group,))
    scored = Snapshot.load(live, "plain", rules).search(queries, k=30)
    np.testing.assert_array_equal(scored.ids, plain.ids)
    np.testing.assert_array_equal(scored.cosines, plain.scores)
    np.testing.assert_array_equal(scored.scores, score(plain.scores.astype(np.float64)).astype(np.float32))


def test_rows_without_a_score_of_their_own_are_searched_by_cosine(table):
    live, gallery = table
    rules = rules_of((Offset(offset=1.0), Identity(), Identity()), "new")
    fewer = replace(rules, scoring=rules.scoring[:1])
    queries = queries_of(4, 1)
    for indexed in (False, True):
        found, expected = (
            Snapshot.load(live, "g", each, index=index_of(live, "g", each) if indexed else None).search(queries, k=180)
            for each in (fewer, rules)
        )
        np.testing.assert_array_equal(found.ids, expected.ids)
        np.testing.assert_array_equal(found.scores, expected.scores)
    assert len(gallery) == 180


def test_queries_of_every_model_are_needed(table):
    live, _ = table
    opened = Snapshot.load(live, "g", rules_of((Identity(),) * 3, "new"))
    queries = queries_of(1, 1)
    with pytest.raises(CompatibilityError, match="searched by 2 models' queries, and those of old are missing"):
        opened.search({"new": queries["new"]}, k=1)
    with pytest.raises(CompatibilityError, match="and those of old are missing"):
        opened.search(queries["new"], k=1)
    with pytest.raises(CompatibilityError, match=r"queries are \(1, 4\), table g has 16 dimensions"):
        opened.search({"new": queries["new"], "old": queries["new"]}, k=1)


def test_a_row_that_its_groups_model_may_not_search_is_refused(table):
    live, _ = table
    rules = rules_of((Identity(),) * 3, "new")
    strict = replace(rules, spaces={"new": ("new",), "old": ("new",)})
    with pytest.raises(CompatibilityError, match="60 rows are in the space of old, which the query"):
        live.check("g", strict)


def test_the_index_finds_what_an_exact_search_finds_in_each_group(tmp_path):
    live = LiveGallery.open(str(tmp_path / "live"), lock=tmp_path / "lock", root=tmp_path)
    rng = np.random.default_rng(0)
    count = 4000
    vectors = rng.standard_normal((count, 16)).astype(np.float32)
    old = np.arange(count) % 2 == 0
    vectors[~old, 8:] = 0
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    made_by = np.where(old, "old", "new")
    gallery = Gallery(
        ids=np.array([f"item-{each:04}" for each in range(count)]),
        labels=np.full(count, "a"),
        tasks=np.full(count, "t1"),
        splits=np.full(count, "train"),
        embedded_by=made_by,
        adapters=np.full(count, ""),
        spaces=made_by,
        vectors=vectors,
        query_model="new",
        searchable_spaces=("old", "new"),
    )
    live.build("g", gallery, origin="pipeline", images=None)
    scoring = tuple(
        GroupScoring(embedded_by=model, adapters="", query_model=model, dimension=dimension, score=score)
        for model, dimension, score in (("old", 16, Offset(offset=-0.25)), ("new", 8, Identity()))
    )
    rules = SearchRules(query_model="new", dimension=8, spaces={"new": ("new",), "old": ("old",)}, scoring=scoring)
    index = index_of(live, "g", rules)
    indexed, exact = (Snapshot.load(live, "g", rules, index=each, probes=64) for each in (index, None))
    queries = {"old": vectors[old][:20], "new": vectors[~old][:20, :8]}
    through, every = (each.search(queries, k=10) for each in (indexed, exact))
    np.testing.assert_array_equal(through.ids, every.ids)
    np.testing.assert_allclose(through.scores, every.scores, atol=1e-6)
    assert indexed.recall_of_index(k=5, queries=60) > 0.98
    assert Snapshot.load(live, "g", rules, index=index, probes=1).recall_of_index(k=5, queries=60) < 1.0
