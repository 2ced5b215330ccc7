"""The index of a large gallery: what was written since, its files, and its way through releases."""

import numpy as np
import pytest
from indices import MANY, index_of
from projects import Project, content_ids, pixels_of

from csd_core.live.filters import Filters
from csd_core.live.index import files, nearest
from csd_core.live.index.files import SearchIndex, write_index
from csd_core.live.rows import LiveItems
from csd_core.live.rules import SearchRules
from csd_core.live.search import Snapshot
from csd_core.live.storage import database
from csd_core.releases.contents.release import INDEX
from csd_core.releases.publish import publish
from csd_core.releases.reindex import reindex
from csd_core.releases.rollback import rollback
from csd_core.system.errors import ArtifactError, CompatibilityError

RULES = SearchRules.by_cosine("model-1", dimension=8)


@pytest.fixture(autouse=True)
def small_parts_have_cells(monkeypatch):
    monkeypatch.setattr(nearest, "FEW", MANY)


@pytest.fixture
def built(live, gallery_of_items, monkeypatch):
    """500 rows, looked up by LanceDB's index on ids as those of a large table are."""
    monkeypatch.setattr(database, "SCANNED_ROWS", 100)
    gallery = gallery_of_items(500)
    live.build("g", gallery, origin="pipeline", images=None)
    return gallery


def put(live, ids, vectors, label="late", model="model-1"):
    live.upsert("g", LiveItems(ids=np.array(ids), labels=np.full(len(ids), label), vectors=vectors, embedded_by=model))


def same_as_exact(live, index, queries, **more):
    """Check that comparing all rows of an index, and those beside it, answers as the rows in memory do, to the bit."""
    exact = Snapshot.load(live, "g", RULES)
    indexed = Snapshot.load(live, "g", RULES, index=index)
    assert indexed.count == exact.count
    for one, other in zip(indexed.search(queries, exhaustive=True, **more), exact.search(queries, **more), strict=True):
        np.testing.assert_array_equal(one, other)
    return indexed


def changed(live, gallery, seed):
    """Write, write again and delete a few rows at random."""
    rng = np.random.default_rng(seed)
    for _ in range(4):
        chosen = rng.choice(500, 12, replace=False)
        put(live, [f"item-{each}" for each in chosen[:6]], gallery.vectors[rng.choice(500, 6)])
        put(live, [f"new-{each}" for each in chosen[:3]], gallery.vectors[chosen[:3]])
        live.delete("g", [f"item-{each}" for each in chosen[4:]], why="test")


@pytest.mark.parametrize("seed", range(3))
def test_what_was_written_and_deleted_since_is_found_beside_the_index_as_in_a_search_of_all_rows(
    live, built, gallery_of_items, seed
):
    index = index_of(live, "g", RULES)
    queries = gallery_of_items(10, seed=9).vectors
    for step in range(3):
        changed(live, built, [seed, step])
        for where in (Filters(), Filters(label=("late",)), Filters(label=("a", "b")), Filters(label=("nobody",))):
            same_as_exact(live, index, queries, k=20, where=where)
    live.compact("g")  # the rows lie elsewhere then
    same_as_exact(live, index, queries, k=20)
    changed(live, built, seed)
    same_as_exact(live, index, queries, k=20)


def test_the_cells_propose_nearly_all_that_a_search_of_all_rows_finds_whatever_was_deleted_or_filtered(
    live, built, gallery_of_items
):
    index = index_of(live, "g", RULES)
    assert index.rows.parts[0].nearest is not None
    live.delete("g", [f"item-{each}" for each in range(0, 500, 3)], why="test")
    indexed = Snapshot.load(live, "g", RULES, index=index, probes=16)
    queries = gallery_of_items(50, seed=9).vectors
    for where in (Filters(), Filters(label=("a", "b")), Filters(task=("t1",))):
        found, true = (indexed.search(queries, k=10, where=where, exhaustive=each).ids for each in (False, True))
        shares = [len(set(mine) & set(others)) / 10 for mine, others in zip(found.tolist(), true.tolist(), strict=True)]
        assert np.mean(shares) > 0.98
        assert all("item-0" not in each for each in found.tolist())


def test_beyond_a_million_rows_candidates_and_cells_searched_grow_with_the_root_of_the_rows(tmp_path, monkeypatch):
    rows = np.random.default_rng(0).standard_normal((4096, 8)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    nearest.build(rows, tmp_path / "cells")
    index = nearest.Nearest(tmp_path / "cells")

    def found(**asked):
        return index.candidates(rows[:50], k=10, probes=4, among=None, **asked)

    few = found(count=4096)
    monkeypatch.setattr(nearest, "_DENSE", 1024)
    many = found(count=4096)
    assert (few.shape, many.shape) == ((50, 170), (50, 330))
    assert np.count_nonzero(many >= 0) > 1.5 * np.count_nonzero(few >= 0)
    true = np.argsort(-(rows[:50] @ rows.T), axis=1)[:, :10]
    of_few, of_many = (
        sum(len(set(a) & set(b)) for a, b in zip(true.tolist(), each.tolist(), strict=True)) for each in (few, many)
    )
    assert of_few < of_many


def test_a_query_far_from_all_rows_that_match_still_finds_k_of_them(live, built):
    near = np.zeros((60, 8), np.float32)
    near[:, 0], near[:, 1] = np.cos(np.arange(60) / 100), np.sin(np.arange(60) / 100)
    put(live, [f"rare-{each}" for each in range(60)], near, label="rare")
    index = index_of(live, "g", RULES)
    opened = Snapshot.load(live, "g", RULES, index=index, probes=1)
    hits = opened.search(-near[:1], k=50, where=Filters(label=("rare",)))
    assert set(hits.labels[0]) == {"rare"}
    assert len(set(hits.ids[0])) == 50


def test_a_snapshot_needs_no_table_once_it_is_open(live, built):
    opened = Snapshot.load(live, "g", RULES, index=index_of(live, "g", RULES))
    live.drop("g")
    assert opened.search(built.vectors[:1], k=1).ids.tolist() == [["item-0"]]


def test_a_row_written_later_in_a_foreign_space_is_refused(live, built):
    index = index_of(live, "g", RULES)
    put(live, ["alien"], built.vectors[:1], model="model-2-of-old")
    with pytest.raises(CompatibilityError, match="1 rows are in the space of model-2-of-o, which the query"):
        Snapshot.load(live, "g", RULES, index=index)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_rows_give_the_same_bytes(live, built, tmp_path, threads):
    write_index(tmp_path / "one", live, "g", RULES, threads=1)
    write_index(tmp_path / "two", live, "g", RULES, threads=threads)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == ["0.faiss", "0.npy", "index.json", "rows.arrow"]
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize("name", ["0.faiss", "rows.arrow", "0.npy", "index.json"])
def test_a_damaged_file_is_told(live, built, tmp_path, name):
    write_index(tmp_path / "index", live, "g", RULES)
    path = tmp_path / "index" / name
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ArtifactError, match=r"index"):
        SearchIndex.of(tmp_path / "index")


def test_an_erased_item_leaves_no_trace_and_a_killed_erasure_is_completed(live, built, tmp_path):
    folder = tmp_path / "files" / "index"
    write_index(folder, live, "g", RULES)
    items = {files.hash_of("item-7")}
    assert not files.erase(folder, {files.hash_of("nobody")})
    folder.rename(folder.with_name(".index.former"))  # as a kill between two renames leaves it
    assert files.erase(folder, items)
    assert not files.erase(folder, items)
    assert [path.name for path in folder.parent.iterdir()] == ["index"]
    content = b"".join(path.read_bytes() for path in folder.iterdir())
    assert b"item-7item-70" not in content
    assert built.vectors[7].tobytes() not in content
    assert built.vectors[8].tobytes() in content
    live.delete("g", ["item-7"], why="test")
    live.compact("g")
    same_as_exact(live, SearchIndex.of(folder), built.vectors[:9], k=5)


# --- releases ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path):
    """One release of 80 rows, with an index."""
    made = Project(tmp_path / "project", tasks=("t1", "t2"), images=40, settings={"exact_rows": 50})
    made.promote("t1", "none").promote("t2", "keep")
    publish(made.production, task="t1")
    return made


def found(project, images, **more):
    """Ids that the active release finds through its index."""
    release = project.active()
    index = SearchIndex.of(release.folder / INDEX)
    live = project.production.live
    return Snapshot.load(live, release.table, release.rules, index=index).search(project.queries(images), **more).ids


def test_many_rows_are_published_with_an_index_that_verifies(project):
    release = project.active()
    assert (release.folder / INDEX / "0.faiss").is_file()
    assert project.findings() == ()
    (release.folder / INDEX / "0.faiss").write_bytes(b"other")
    assert any("index/0.faiss" in each for each in project.findings())


def test_people_write_and_delete_beside_the_index_and_an_upgrade_a_rollback_and_a_new_index_keep_it_so(project):
    image, gone = pixels_of(31, 1, seed=5), pixels_of(32, 1, seed=5)
    (mine,) = project.put(image, "late")
    (other,) = project.put(gone, "late")
    project.production.live.delete(project.active().table, [other], why="test")

    def right():
        assert project.findings() == ()
        assert found(project, image, k=1).tolist() == [[mine]]
        assert other not in found(project, gone, k=200)[0]

    right()
    publish(project.production)
    right()
    rollback(project.production, why="test")
    right()
    before = project.active()
    after = reindex(project.production, why="many writes")
    right()
    assert (after.number, after.record.model) == (before.number + 1, before.record.model)
    ids = SearchIndex.of(after.folder / INDEX).rows.facts["id"].to_pylist()
    assert mine in ids
    assert other not in ids


def test_an_erased_item_is_in_no_release_index(project):
    (mine,) = content_ids(pixels_of(31, 1, seed=5))
    project.put(pixels_of(31, 1, seed=5), "late")
    release = reindex(project.production, why="many writes")
    assert mine in SearchIndex.of(release.folder / INDEX).rows.facts["id"].to_pylist()
    report = project.production.live.erase([mine])
    project.production.releases.forget([mine], tagged=report.tagged)
    assert mine not in SearchIndex.of(release.folder / INDEX).rows.facts["id"].to_pylist()
    assert project.findings() == ()
