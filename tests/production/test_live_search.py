"""Search in snapshots of the live gallery: exact, through the index, filtered, refused."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from indices import MANY, index_of

from csd_core.live import exact
from csd_core.live.filters import Filters
from csd_core.live.index import nearest
from csd_core.live.rows import LiveItems
from csd_core.live.rules import SearchRules
from csd_core.live.search import Snapshot
from csd_core.retrieval.gallery import Gallery
from csd_core.system.errors import ArtifactError, CompatibilityError, ParamsError

HOSTILE = ("it's", "x' OR '1'='1", '"; DROP TABLE g; --', "%", "_", "ü€😀", "\\", "label IN ('a')")


def brute_force(gallery, query, k, keep=None):
    """Ids of the k nearest, one row at a time; equal ones by id."""
    rows = range(len(gallery)) if keep is None else np.flatnonzero(keep)
    scored = [
        (-float(np.dot(gallery.vectors[i].astype(float), query.astype(float))), str(gallery.ids[i])) for i in rows
    ]
    return [identity for _, identity in sorted(scored)[:k]]


def snapshot(live, table="g", *, dimension=8, indexed=False, **more):
    rules = SearchRules.by_cosine("model-1", dimension=dimension)
    if indexed:
        more["index"] = index_of(live, table, rules)
    return Snapshot.load(live, table, rules, **more)


@pytest.fixture(autouse=True)
def small_parts_have_cells(monkeypatch):
    monkeypatch.setattr(nearest, "FEW", MANY)


def put(live, gallery, ids, labels, table="g"):
    live.upsert(
        table,
        LiveItems(
            ids=np.array(ids), labels=np.array(labels), vectors=gallery.vectors[: len(ids)], embedded_by="model-1"
        ),
    )


@pytest.fixture
def built(live, gallery_of_items):
    gallery = gallery_of_items(300)
    live.build("g", gallery, origin="pipeline", images=None)
    return gallery


@pytest.fixture
def crowd(live, gallery_of_items):
    """3000 rows in 16 dimensions, with an index of 32 cells."""
    gallery = gallery_of_items(3000, dimension=16)
    live.build("crowd", gallery, origin="pipeline", images=None)
    return gallery


def test_exact_search_is_brute_force(live, built, gallery_of_items):
    queries = gallery_of_items(25, seed=7).vectors
    hits = snapshot(live).search(queries, k=10)
    assert hits.ids.tolist() == [brute_force(built, query, 10) for query in queries]
    row = built.ids.tolist().index(hits.ids[0, 0])
    assert hits.scores[0, 0] == pytest.approx(float(built.vectors[row] @ queries[0]), abs=1e-6)
    assert (hits.labels[0, 0], hits.tasks[0, 0]) == (built.labels[row], built.tasks[row])
    assert (hits.spaces[0, 0], hits.embedded_by[0, 0], hits.origins[0, 0]) == ("model-1", "model-1", "pipeline")


def test_blocks_of_queries_change_nothing(live, built, gallery_of_items, monkeypatch):
    queries = gallery_of_items(25, seed=7).vectors
    whole = snapshot(live).search(queries, k=10)
    monkeypatch.setattr(exact, "BLOCK", 700)  # two queries at a time
    for one, other in zip(whole, snapshot(live).search(queries, k=10), strict=True):
        np.testing.assert_array_equal(one, other)


def test_equal_rows_come_by_id_whatever_their_order_in_the_table(live, gallery_of_items):
    few = gallery_of_items(7)
    rng = np.random.default_rng(3)
    found = []
    for name in ("one", "two"):
        order = rng.permutation(210)
        columns = {
            "ids": np.array([f"item-{i:03}" for i in range(210)]),
            "labels": np.full(210, "a"),
            "tasks": np.full(210, "t"),
            "splits": np.full(210, "train"),
            "vectors": np.tile(few.vectors, (30, 1)),
        }
        shuffled = Gallery.embedded(**{key: values[order] for key, values in columns.items()}, model="model-1")
        live.build(name, shuffled, origin="pipeline", images=None)
        found.append(snapshot(live, name).search(few.vectors, k=12))
    np.testing.assert_array_equal(found[0].ids, found[1].ids)
    np.testing.assert_array_equal(found[0].scores, found[1].scores)
    assert found[0].ids[2].tolist() == [f"item-{2 + 7 * i:03}" for i in range(12)]


def test_a_snapshot_stays_as_it_was_loaded(live, built):
    exact, indexed = snapshot(live), snapshot(live, indexed=True)
    live.delete("g", ["item-0"], why="test")
    for opened in (exact, indexed):
        assert opened.search(built.vectors[:1], k=1).ids.tolist() == [["item-0"]]
    assert snapshot(live).search(built.vectors[:1], k=1).ids.tolist() != [["item-0"]]


def test_a_tagged_version_is_searched_as_it_was(live, built):
    live.tag("g", "release-0001")
    live.delete("g", ["item-0"], why="test")
    tagged = snapshot(live, version="release-0001")
    assert tagged.count == 300
    assert tagged.search(built.vectors[:1], k=1).ids.tolist() == [["item-0"]]


@pytest.mark.parametrize("indexed", [False, True], ids=["exact", "index"])
def test_filters_are_those_of_a_loop(live, built, gallery_of_items, indexed):
    query = gallery_of_items(1, seed=7).vectors
    opened = snapshot(live, indexed=indexed)
    cases = {
        Filters(label=("a",)): built.labels == "a",
        Filters(label=("a", "b"), task=("t1",)): np.isin(built.labels, ["a", "b"]) & (built.tasks == "t1"),
        Filters(embedded_by=("model-1",), origin=("pipeline",)): np.full(300, True),
    }
    for where, keep in cases.items():
        assert opened.search(query, k=9, where=where).ids[0].tolist() == brute_force(built, query[0], 9, keep)
    for nothing in (Filters(label=("z",)), Filters(label=()), Filters(origin=("live",))):
        assert opened.search(query, k=9, where=nothing).ids.shape == (1, 0)


@pytest.mark.parametrize("indexed", [False, True], ids=["exact", "index"])
def test_rows_are_found_by_when_they_were_written(live, built, indexed):
    moment = datetime.now(UTC) + timedelta(seconds=1)
    late = np.array([np.datetime64(moment.replace(tzinfo=None), "us")])
    live.upsert(
        "g",
        LiveItems(
            ids=np.array(["late"]),
            labels=np.array(["a"]),
            vectors=built.vectors[:1],
            embedded_by="model-1",
            written_at=late,
        ),
    )
    opened = snapshot(live, indexed=indexed)
    for since in (moment, moment.replace(tzinfo=None), moment.astimezone().astimezone(UTC)):
        assert opened.search(built.vectors[:1], k=5, where=Filters(since=since)).ids.tolist() == [["late"]]
    after = Filters(since=moment + timedelta(microseconds=1))
    assert opened.search(built.vectors[:1], k=5, where=after).ids.shape == (1, 0)


@pytest.mark.parametrize("indexed", [False, True], ids=["exact", "index"])
def test_hostile_words_match_themselves_and_nothing_else(live, built, indexed):
    names = [f"hostile-{i}" for i in range(len(HOSTILE))]
    put(live, built, names, HOSTILE)
    opened = snapshot(live, indexed=indexed)
    for name, text in zip(names, HOSTILE, strict=True):
        assert opened.search(built.vectors[:1], k=50, where=Filters(label=(text,))).ids.tolist() == [[name]]
        assert opened.search(built.vectors[:1], k=50, where=Filters(task=(text,))).ids.size == 0


def test_a_filter_given_one_word_is_refused_for_its_letters_would_be_the_values():
    with pytest.raises(ParamsError, match="filter label: 'cat'; give a tuple of words"):
        Filters(label="cat")


def test_rows_in_a_foreign_space_are_refused_and_never_searched(live, built):
    live.upsert(
        "g",
        LiveItems(
            ids=np.array(["alien"]), labels=np.array(["a"]), vectors=built.vectors[:1], embedded_by="model-2-of-old"
        ),
    )
    for indexed in (False, True):
        with pytest.raises(CompatibilityError, match="1 rows are in the space of model-2-of-o, which the query"):
            snapshot(live, indexed=indexed)
    both = Snapshot.load(live, "g", SearchRules.by_cosine("model-1", dimension=8, spaces=("model-1", "model-2-of-old")))
    assert both.count == 301


def test_queries_of_another_dimension_or_length_are_refused(live, built):
    with pytest.raises(CompatibilityError, match="table g has 8 dimensions, the query model 16"):
        snapshot(live, dimension=16)
    opened = snapshot(live)
    with pytest.raises(CompatibilityError, match=r"queries are \(1, 4\), table g has 8 dimensions"):
        opened.search(built.vectors[:1, :4], k=1)
    with pytest.raises(CompatibilityError, match="queries: 1 vectors are not of unit length"):
        opened.search(2 * built.vectors[:1], k=1)
    with pytest.raises(ParamsError, match="k is 0"):
        opened.search(built.vectors[:1], k=0)


def test_more_is_asked_for_than_there_is(live, built):
    assert snapshot(live).search(built.vectors[:2], k=1000).ids.shape == (2, 300)
    assert snapshot(live, indexed=True).search(built.vectors[:2], k=1000).ids.shape == (2, 300)
    assert snapshot(live).search(built.vectors[:0], k=3).ids.shape == (0, 3)


def test_an_empty_table_answers_with_nothing(live, gallery_of_items):
    live.build("none", gallery_of_items(0), origin="pipeline", images=None)
    for indexed in (False, True):
        assert snapshot(live, "none", indexed=indexed).search(gallery_of_items(2).vectors, k=3).ids.shape == (2, 0)


def test_the_recall_of_the_index_grows_with_the_cells_searched(live, crowd):
    index = index_of(live, "crowd", SearchRules.by_cosine("model-1", dimension=16))
    recalls = [
        snapshot(live, "crowd", dimension=16, index=index, probes=probes).recall_of_index(k=10, queries=100)
        for probes in (1, 8, 64)
    ]
    print(f"recall@10 of the index with 1, 8 and 64 of 64 cells: {recalls}")  # noqa: T201 - shown with -s
    assert 0.1 < recalls[0] < recalls[1] < recalls[2]
    assert recalls[2] > 0.98


def test_an_exact_snapshot_has_no_index_to_judge(live, built):
    with pytest.raises(ArtifactError, match="searched exactly"):
        snapshot(live).recall_of_index(k=1, queries=1)
