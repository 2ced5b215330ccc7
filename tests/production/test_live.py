"""Tables and rows of the live gallery, in a real LanceDB."""

import threading

import numpy as np
import pyarrow as pa
import pytest

from csd_core.live.filters import Filters
from csd_core.live.gallery import LiveGallery
from csd_core.live.rows import COLUMNS, LiveItems, StoredImages, gallery_of
from csd_core.live.rules import SearchRules
from csd_core.retrieval.gallery import Gallery
from csd_core.system.errors import ArtifactError, CompatibilityError, CsdError, DataError, ParamsError


def pngs(ids):
    return StoredImages([f"png of {identity}".encode() for identity in ids], [None] * len(ids))


def items(gallery, *names, label="written", **more):
    rows = [gallery.ids.tolist().index(name) if name in gallery.ids else 0 for name in names]
    return LiveItems(
        ids=np.array(names, np.str_),
        labels=np.full(len(names), label),
        vectors=gallery.vectors[rows],
        embedded_by="model-1",
        **more,
    )


def ids_of(live, table, **where):
    return sorted(live.rows(table, columns=["id"], **where)["id"].to_pylist())


def by_id(gallery):
    return taken(gallery, np.argsort(gallery.ids))


def taken(gallery, order):
    columns = ("ids", "labels", "tasks", "splits", "embedded_by", "adapters", "spaces", "vectors")
    return Gallery(
        **{name: getattr(gallery, name)[order] for name in columns},
        query_model=gallery.query_model,
        searchable_spaces=gallery.searchable_spaces,
    )


@pytest.fixture
def built(live, gallery_of_items):
    """A table `g` of 40 rows with images, tagged `first`."""
    gallery = gallery_of_items(40)
    live.build("g", gallery, origin="pipeline", images=pngs)
    live.tag("g", "first")
    return gallery


# --- whole tables -----------------------------------------------------------------------------------------------------


def test_a_built_table_reads_back_to_the_byte(live, gallery_of_items):
    gallery = gallery_of_items(2500)  # several batches
    assert live.build("g", gallery, origin="pipeline", images=pngs) == 2500
    read = gallery_of(live.rows("g"), query_model="model-1", searchable_spaces=("model-1",))
    assert by_id(read).digest == by_id(gallery).digest
    rows = live.rows("g", ids=["item-7"], columns=["image", "image_ref", "origin"]).to_pylist()
    assert rows == [{"image": b"png of item-7", "image_ref": None, "origin": "pipeline"}]


def test_a_table_appears_when_it_is_complete_and_not_before(live, gallery_of_items):
    seen = []

    def images(ids):
        seen.append(live.tables())
        return pngs(ids)

    live.build("g", gallery_of_items(10), origin="pipeline", images=images)
    assert seen == [()]
    assert live.tables() == ("g",)


def test_readers_see_the_former_table_while_another_is_built_in_its_place(live, built, gallery_of_items):
    counts = []

    def images(ids):
        reading = threading.Thread(target=lambda: counts.append((live.count("g"), live.digest("g"))))
        reading.start()
        reading.join()
        return pngs(ids)

    before = live.digest("g")
    live.build("g", gallery_of_items(2000), origin="pipeline", images=images)
    assert counts == [(40, before)] * 2
    assert live.count("g") == 2000


def test_a_build_that_fails_says_why_and_leaves_what_was_there(live, built, tmp_path):
    def images(ids):
        raise DataError("the shard is gone")

    before = live.digest("g")
    with pytest.raises(DataError, match="^the shard is gone$"):
        live.build("g", built, origin="pipeline", images=images)
    with pytest.raises(DataError, match="^the shard is gone$"):
        live.build("other", built, origin="pipeline", images=images)
    assert (live.tables(), live.digest("g")) == (("g",), before)
    live.sweep()
    assert len(list((tmp_path / "live").glob("*.lance"))) == 2  # g and the catalogue


def test_a_gallery_of_another_dimension_is_another_table(live, built, gallery_of_items):
    live.build("wide", gallery_of_items(5, dimension=16), origin="pipeline", images=None)
    live.check("wide", SearchRules.by_cosine("model-1", dimension=16))
    live.check("g", SearchRules.by_cosine("model-1", dimension=8))


def test_a_dropped_table_leaves_no_file(live, built, files_with, tmp_path):
    assert files_with(tmp_path, b"png of item-7")
    live.drop("g")
    assert live.tables() == ()
    assert not files_with(tmp_path, b"png of item-7")


def test_an_unknown_table_or_version_is_named_with_what_there_is(live, built):
    with pytest.raises(ArtifactError, match=r"there is no table h \(it has: g\); publish it"):
        live.count("h")
    with pytest.raises(ArtifactError, match=r"table g has no version second \(tags: first\)"):
        live.count("g", version="second")
    with pytest.raises(ArtifactError, match="table g has no version 99"):
        live.rows("g", version=99)


@pytest.mark.parametrize("name", ["../g", "a/b", "", "catalogue", "tombstones", "a.b", "x" * 101])
def test_a_table_name_that_could_lead_elsewhere_is_refused(live, gallery_of_items, name):
    with pytest.raises(ParamsError, match="not a name"):
        live.build(name, gallery_of_items(3), origin="pipeline", images=None)


def test_the_same_code_runs_on_an_object_store_uri(gallery_of_items, tmp_path):
    live = LiveGallery.open("memory://", lock=tmp_path / "lock")
    gallery = gallery_of_items(20)
    live.build("g", gallery, origin="pipeline", images=pngs)
    live.tag("g", "first")
    live.upsert("g", items(gallery, "new"))
    live.delete("g", ["item-3"], why="test")
    live.erase(["item-4"])
    live.compact("g")
    assert live.count("g") == 19
    assert live.count("g", version="first") == 19


# --- rows -------------------------------------------------------------------------------------------------------------


def test_items_are_replaced_by_id_and_new_ones_added(live, built):
    live.upsert("g", items(built, "item-1", "new", images=pngs(["one", "two"])))
    assert live.count("g") == 41
    rows = {row["id"]: row for row in live.rows("g", ids=["item-1", "item-2", "new"]).to_pylist()}
    assert [rows[name]["label"] for name in ("item-1", "item-2", "new")] == ["written", "c", "written"]
    assert [rows[name]["origin"] for name in ("item-1", "item-2", "new")] == ["live", "pipeline", "live"]
    assert rows["item-1"]["image"] == b"png of one"
    assert rows["item-1"]["space"] == "model-1"


def test_a_write_shows_neither_at_a_tag_nor_in_a_handle_that_reads(live, built):
    handle = live.reading("g")
    live.upsert("g", items(built, "new"))
    assert (live.count("g"), live.count("g", version="first"), handle.count_rows()) == (41, 40, 40)


def test_what_people_wrote_and_deleted_since_a_tag_is_told(live, built):
    live.upsert("g", items(built, "item-5", "new", "brief"))
    live.delete("g", ["item-9", "brief", "never-there"], why="test")
    changes = live.changed_since("g", "first")
    assert changes.upserted.tolist() == ["item-5", "new"]
    assert changes.deleted.tolist() == ["item-9"]


def test_an_item_that_is_written_again_with_the_same_content_has_changed(live, built):
    live.upsert("g", items(built, "item-5"))
    live.tag("g", "second")
    assert live.changed_since("g", "second").upserted.size == 0
    live.upsert("g", items(built, "item-5"))
    assert live.changed_since("g", "second").upserted.tolist() == ["item-5"]


def test_carried_rows_keep_revision_and_time(live, built):
    live.upsert("g", items(built, "item-5"))
    (old,) = live.rows("g", ids=["item-5"], columns=["revision", "written_at"]).to_pylist()
    assert live.fill("h", live.batches("g", COLUMNS), dimension=8, images=None) == 40
    assert live.rows("h", ids=["item-5"], columns=["revision", "written_at"]).to_pylist() == [old]
    pipeline = {name: live.rows(name, ids=["item-6"], columns=["revision"]).to_pylist() for name in ("g", "h")}
    assert pipeline["g"] == pipeline["h"]


def test_a_write_of_another_dimension_is_refused_and_changes_nothing(live, built, gallery_of_items):
    before = live.version("g")
    with pytest.raises(CompatibilityError, match="items have 16 dimensions, table g 8"):
        live.upsert("g", items(gallery_of_items(3, dimension=16), "item-1"))
    assert live.version("g") == before


def test_rows_that_cannot_be_searched_are_refused(built):
    with pytest.raises(CompatibilityError, match="items: 1 vectors are not of unit length, such as that of item x"):
        LiveItems(ids=np.array(["x"]), labels=np.array(["a"]), vectors=2 * built.vectors[:1], embedded_by="m")
    with pytest.raises(CompatibilityError, match="length nan"):
        LiveItems(ids=np.array(["x"]), labels=np.array(["a"]), vectors=np.nan * built.vectors[:1], embedded_by="m")
    with pytest.raises(ParamsError, match="id x is given twice"):
        items(built, "x", "x")
    with pytest.raises(ParamsError, match="has 0 characters"):
        items(built, "")
    with pytest.raises(ParamsError, match="a label is empty"):
        items(built, "x", label="")
    with pytest.raises(ArtifactError, match="one row for each"):
        LiveItems(ids=np.array(["x", "y"]), labels=np.array(["a"]), vectors=built.vectors[:1], embedded_by="m")


HOSTILE = ("it's", '"; DROP TABLE g; --', "x' OR '1'='1", "%", "ü\u202e€😀", "a\\'b", "id IN ('item-1')", "\n")


def test_hostile_ids_and_labels_are_matched_literally(live, built):
    for text in HOSTILE:
        live.upsert("g", items(built, text, label=f"label {text}"))
    for text in HOSTILE:
        assert ids_of(live, "g", ids=[text]) == [text]
        assert ids_of(live, "g", where=Filters(label=(f"label {text}",))) == [text]
    assert live.delete("g", HOSTILE, why="it's; DROP") == len(HOSTILE)
    assert live.count("g") == 40


# --- tombstones -------------------------------------------------------------------------------------------------------


def test_a_deleted_item_is_in_no_table_built_later(live, built):
    assert live.delete("g", ["item-3", "item-4"], why="test") == 2
    assert live.build("h", built, origin="pipeline", images=None) == 38
    assert not {"item-3", "item-4"} & set(ids_of(live, "h"))


def test_an_item_that_is_written_again_may_come_back(live, built):
    live.delete("g", ["item-3"], why="test")
    live.upsert("g", items(built, "item-3"))
    assert live.build("h", built, origin="pipeline", images=None) == 40


def test_a_row_written_after_the_deletion_stands_though_its_tombstone_was_not_lifted(live, built):
    live.delete("g", ["item-3", "item-4"], why="test")
    (tombstone,) = {tombstone.at for tombstone in live.tombstones().tombstones_found.values()}
    second = np.timedelta64(1, "s")
    ids = np.array(["item-3", "item-3", "item-5"])
    times = np.array([tombstone + second, tombstone - second, tombstone - second])
    assert live.tombstones().is_deleted(ids, written_at=times).tolist() == [False, True, False]
    assert live.tombstones().is_deleted(ids).tolist() == [True, True, False]


def test_tombstones_hold_no_id(live, built, files_with, tmp_path):
    live.delete("g", ["item-3"], why="test")
    folder = tmp_path / "live" / "tombstones.lance"
    assert files_with(folder, b"test")
    assert not files_with(folder, b"item-3")


# --- digest and check -------------------------------------------------------------------------------------------------


def test_the_digest_depends_neither_on_row_order_nor_on_files(live, built):
    live.build("h", taken(built, np.random.default_rng(1).permutation(40)), origin="pipeline", images=pngs)
    live.build("i", taken(built, np.arange(30)), origin="pipeline", images=pngs)
    rest = taken(built, np.arange(30, 40))
    live.upsert(
        "i",
        LiveItems(
            ids=rest.ids,
            labels=rest.labels,
            vectors=rest.vectors,
            embedded_by=rest.embedded_by,
            tasks=rest.tasks,
            splits=rest.splits,
            origins="pipeline",
            images=pngs(rest.ids),
        ),
    )
    assert live.digest("g") == live.digest("h") == live.digest("i")


@pytest.mark.parametrize("column", ["labels", "tasks", "splits", "embedded_by", "adapters", "origins", "images", "ids"])
def test_the_digest_sees_a_change_of_any_column(live, built, column):
    def row(**changed):
        values = {
            "ids": np.array(["item-3"]),
            "labels": built.labels[3:4],
            "vectors": built.vectors[3:4],
            "embedded_by": "model-1",
            "spaces": "model-1",
            "tasks": built.tasks[3:4],
            "splits": built.splits[3:4],
            "origins": "pipeline",
            "images": pngs(["item-3"]),
        }
        return LiveItems(**(values | changed))

    before = live.digest("g")
    live.upsert("g", row())
    assert live.digest("g") == before
    changed = StoredImages([b"other"], [None]) if column == "images" else np.array(["live"])
    live.upsert("g", row(**{column: changed}))
    assert live.digest("g") != before


def test_the_digest_sees_one_bit_of_a_vector(live, built):
    before = live.digest("g")
    vectors = built.vectors.copy()
    vectors.view(np.uint32)[3, 0] ^= 1
    changed = taken(built, np.arange(40))
    object.__setattr__(changed, "vectors", vectors)
    live.build("h", changed, origin="pipeline", images=pngs)
    assert live.digest("h") != before


def test_a_table_that_cannot_be_searched_is_refused(live, built):
    live.check("g", SearchRules.by_cosine("model-1", dimension=8))
    with pytest.raises(CompatibilityError, match="table g has 8 dimensions, the query model 4"):
        live.check("g", SearchRules.by_cosine("model-1", dimension=4))
    with pytest.raises(CompatibilityError, match="40 rows are in the space of model-1, which the query model may not"):
        live.check("g", SearchRules.by_cosine("model-2", dimension=8))


def test_a_table_with_an_id_twice_or_a_long_vector_is_refused(live, built):
    handle = live.reading("g")
    handle.checkout_latest()
    row = live.rows("g", ids=["item-3"])
    handle.add(row)
    with pytest.raises(ArtifactError, match="table g: 1 ids occur twice"):
        live.check("g", SearchRules.by_cosine("model-1", dimension=8))
    live.delete("g", ["item-3"], why="test")
    (long,) = row.to_pylist()
    handle.checkout_latest()
    handle.add(pa.Table.from_pylist([long | {"vector": [9.0] * 8}], row.schema))
    with pytest.raises(CompatibilityError, match="table g: 1 vectors are not of unit length, such as .* item item-3"):
        live.check("g", SearchRules.by_cosine("model-1", dimension=8))


# --- tags, compaction -------------------------------------------------------------------------------------------------


def test_a_tag_moves_and_goes(live, built):
    live.upsert("g", items(built, "new"))
    version = live.tag("g", "first")
    assert live.tags("g") == {"first": version}
    assert live.count("g", version="first") == 41
    live.untag("g", "first")
    assert live.tags("g") == {}


def test_compaction_keeps_what_tags_and_the_latest_version_show(live, built, files_with, tmp_path):
    for number in range(6):
        live.upsert("g", items(built, f"new-{number}", images=pngs([f"new-{number}"])))
    live.delete("g", ["new-5"], why="test")
    live.tag("g", "second")
    live.upsert("g", items(built, "item-2"))
    before = {tag: live.digest("g", version=tag) for tag in (None, "first", "second")}
    assert files_with(tmp_path / "live", b"png of new-5")
    done = live.compact("g")
    assert {tag: live.digest("g", version=tag) for tag in (None, "first", "second")} == before
    assert live.changed_since("g", "second").upserted.tolist() == ["item-2"]
    assert done.versions_after < done.versions_before
    assert done.files_after < done.files_before
    assert not files_with(tmp_path / "live", b"png of new-5")


def test_another_thread_that_holds_the_lock_is_waited_for_and_named(live, built):
    holding, done = threading.Event(), threading.Event()

    def hold():
        with live.writing():
            holding.set()
            done.wait(20)

    holder = threading.Thread(target=hold)
    holder.start()
    holding.wait(20)
    with pytest.raises(CsdError, match=r"is in use by process \d+ \(.*, since .* UTC\)"), live.writing(wait=0.2):
        pass
    done.set()
    holder.join()
    live.upsert("g", items(built, "new"))


def test_who_holds_the_lock_may_take_it_again_even_through_another_gallery(live, built, tmp_path):
    other = LiveGallery.open(str(tmp_path / "live"), lock=tmp_path / "write.lock")
    with live.writing(), other.writing(wait=1):
        other.upsert("g", items(built, "new"))
    assert live.count("g") == 41
