"""What a write costs after very many others: counted, not timed."""

import numpy as np
import pytest

from csd_core.live import tombstones
from csd_core.live.rows import LiveItems
from csd_core.live.storage import tables, upkeep
from csd_core.live.storage.lance import files_of


def put(live, *ids):
    vectors = np.tile(np.eye(1, 8, dtype=np.float32), (len(ids), 1))
    live.upsert("g", LiveItems(ids=np.array(ids), labels=np.full(len(ids), "a"), vectors=vectors, embedded_by="m"))


@pytest.fixture
def built(live, gallery_of_items):
    live.build("g", gallery_of_items(5), origin="pipeline", images=None)
    live.tag("g", "first")


def test_a_write_looks_up_its_own_items_among_many_deletions(live, built, monkeypatch):
    live.delete("g", [f"gone-{number}" for number in range(2000)], why="test")
    looked_up = []
    found = tombstones._of

    def counting(rows):
        looked_up.append(rows.num_rows)
        return found(rows)

    monkeypatch.setattr(tombstones, "_of", counting)
    monkeypatch.setattr(tombstones, "read", None)
    put(live, "gone-7", "new")
    live.delete("g", ["gone-8", "other"], why="test")
    assert looked_up == [1, 1]


def test_many_deletions_have_an_index(live, built, monkeypatch):
    monkeypatch.setattr(upkeep, "EVERY", 4)
    monkeypatch.setattr(tombstones, "INDEXED", 10)
    for number in range(9):
        live.delete("g", [f"gone-{number}-{each}" for each in range(5)], why="test")
    handle = live._tables.opened("tombstones")
    assert [index.columns for index in handle.list_indices()] == [["item"]]
    assert files_of(handle) <= 5
    put(live, "gone-3-1")
    assert len(live.tombstones().tombstones_found) == 44
    assert live.tombstones_of(["gone-8-4", "gone-3-1"]).tombstones_found.keys() == {tombstones.hash_of("gone-8-4")}


def test_rows_that_the_index_does_not_have_yet_stay_few_where_many_are_deleted_at_once(live, built):
    unindexed = []
    for number in range(8):
        live.delete("g", [f"gone-{number}-{each}" for each in range(1500)], why="test")
        statistics = live._tables.opened("tombstones").index_stats("item_idx")
        unindexed.append(statistics.num_unindexed_rows if statistics else 1500)
    assert max(unindexed) <= upkeep.ROWS
    assert live.tombstones_of(["gone-7-1499", "other"]).tombstones_found.keys() == {tombstones.hash_of("gone-7-1499")}


def test_single_writes_do_not_pile_up_files(live, built, monkeypatch):
    monkeypatch.setattr(upkeep, "EVERY", 4)
    monkeypatch.setattr(tables, "FEW", 8)
    before = live.digest("g", version="first", whole=True)
    for number in range(40):
        put(live, f"new-{number}")
    assert files_of(live._tables.open("g")) <= 16
    assert live.count("g") == 45
    assert live.digest("g", version="first", whole=True) == before


def test_deletions_that_nothing_could_undo_are_forgotten_and_erasures_never(live, built):
    put(live, "live-only")
    live.delete("g", ["live-only", "item-1", "never", "in-the-pipeline"], why="test")
    live.erase(["item-2"])
    assert live.forget_deletions(needed=["in-the-pipeline"]) == 2
    tombstones_found = live.tombstones().tombstones_found.keys()
    assert tombstones_found == {tombstones.hash_of(each) for each in ("item-1", "in-the-pipeline", "item-2")}
