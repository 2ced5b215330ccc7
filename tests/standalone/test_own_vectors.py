"""Vectors and labels that a team already has, against a brute force that shares no code with the package."""

import shutil
from pathlib import Path

import faiss
import lancedb
import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest

from csd_core.records.check import CheckReport
from csd_core.retrieval.gallery import Gallery
from csd_core.standalone.collection import read_labelled
from csd_core.standalone.roles import assign_roles
from csd_core.standalone.vectors.given import read_given
from csd_core.standalone.vectors.labels import read_labels
from csd_core.standalone.vectors.source import open_vectors
from csd_core.stores.protocol import BATCH_ROWS
from csd_core.system.errors import ArtifactError, CompatibilityError, DataError


def vectors_by(maps, name, digits):
    """(N, D) float64, not of unit length: what a linear model of the pixels makes of the digits."""
    return (digits[0].reshape(len(digits[0]), -1) / 255 - maps["mean"]) @ maps[name]


def table(path, ids, vectors):
    flat = pa.array(np.asarray(vectors, np.float32).ravel())
    columns = {"id": pa.array(ids), "vector": pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])}
    pq.write_table(pa.table({**columns, "note": ["x"] * len(ids)}), path)
    return path


def recall(queries, rows, classes, asked):
    """Share of queries whose nearest other row by cosine is of their class, by the definition."""
    queries, rows = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (queries, rows))
    hits = 0
    for each in asked:
        cosines = rows @ queries[each]
        cosines[each] = -2
        hits += classes[cosines.argmax()] == classes[each]
    return hits / len(asked)


@pytest.fixture
def team(maps, digits, tmp_path, photos):
    """Vectors of two models as parquet, with a table of labels in another order; ids that no pixel explains."""
    count = len(digits[1])
    ids = [f"sku-{row:05}" for row in range(count)]
    for name in ("weak", "good", "random"):
        table(tmp_path / f"{name}.parquet", ids, vectors_by(maps, name, digits))
    order = np.random.default_rng(0).permutation(count)
    paths = [f"{label}/{row:04}.png" for row, label in enumerate(digits[1])]
    columns = {"id": ids, "class": [f"digit {label}" for label in digits[1]], "path": paths}
    labels = pa.table({name: [values[row] for row in order] for name, values in columns.items()})
    pc.write_csv(labels, tmp_path / "labels.csv")
    pc.write_csv(labels.drop_columns("path"), tmp_path / "no-paths.csv")
    return tmp_path


def checked(csd, *arguments):
    code, printed, errors = csd("check", *arguments, "-o", "check.json")
    assert code in (0, 7), errors
    return code, printed, CheckReport.load(Path("check.json"))


def alternative(report, name):
    return next(each for each in report.alternatives if each.name == name).measured.overall.recall_at_1


def test_vectors_of_both_models_need_no_model_and_no_image_and_agree_with_brute_force(csd, team, maps, digits):
    arguments = ("--old-vectors", team / "weak.parquet", "--labels", team / "no-paths.csv")
    code, printed, report = checked(csd, *arguments, "--new-vectors", team / "good.parquet")
    assert (code, "not of unit length" in printed, "promoted under " in printed) == (0, True, True)
    old, new = (vectors_by(maps, name, digits) for name in ("weak", "good"))
    collection = read_labelled(read_labels(team / "no-paths.csv"))
    roles = assign_roles(collection, gallery=None, new_classes=(), seed=1)
    asked = np.array([int(each[4:]) for each in collection.items.ids[roles.splits == "gate"]])
    assert len(asked) == report.status_quo.overall.queries == 300
    assert report.status_quo.overall.recall_at_1 == pytest.approx(recall(old, old, digits[1], asked), abs=1e-9)
    assert alternative(report, "backfill") == pytest.approx(recall(new, new, digits[1], asked), abs=1e-9)
    assert alternative(report, "keep") == pytest.approx(recall(new, old, digits[1], asked), abs=1e-9)
    code, _, _ = checked(csd, *arguments, "--new-vectors", team / "random.parquet")
    assert code == 7


def test_stored_vectors_with_a_new_model_or_with_both_give_what_vectors_alone_give(csd, team, models, photos):
    labelled = ("--labels", team / "labels.csv", "--images", photos, "--vectors", team / "weak.parquet")
    _, _, alone = checked(csd, *labelled, "--new-vectors", team / "good.parquet")
    _, _, new = checked(csd, models["good"], *labelled)
    _, _, both = checked(csd, models["weak"], models["good"], *labelled)
    for report in (new, both):
        assert report.status_quo.overall == alone.status_quo.overall
        assert [alternative(report, name) for name in ("keep", "backfill")] == pytest.approx(
            [alternative(alone, name) for name in ("keep", "backfill")],
            abs=0.01,  # pixels were rounded to a byte
        )


def test_vectors_that_the_old_model_does_not_make_of_the_images_are_refused(csd, team, models, photos):
    code, _, errors = csd(
        "check", models["weak"], models["good"], "--labels", team / "labels.csv", "--images", photos,
        "--vectors", team / "good.parquet",
    )  # fmt: skip
    assert code not in (0, 7)
    assert "are not what model" in errors
    assert errors.count("\n") == 1


def test_labels_alone_name_the_images_of_a_flat_folder(csd, team, models, photos, digits):
    flat = team / "flat"
    flat.mkdir()
    for path in photos.rglob("*.png"):
        shutil.copyfile(path, flat / path.name)
    rows = pa.table({"path": [f"flat/{row:04}.png" for row in range(len(digits[1]))], "class": digits[1].astype(str)})
    pq.write_table(rows, team / "labels.parquet")
    _, _, by_table = checked(csd, models["weak"], models["good"], "--labels", team / "labels.parquet")
    assert by_table.status_quo.overall.queries == 300
    assert alternative(by_table, "backfill") > by_table.status_quo.overall.recall_at_1


def test_a_gallery_of_own_vectors_is_upgraded_under_its_own_ids_and_nothing_is_embedded_twice(
    csd, team, models, photos
):
    labelled = ("--labels", team / "labels.csv", "--images", photos)
    vectors = ("--vectors", team / "weak.parquet")
    code, _, errors = csd("upgrade", "index", models["weak"], *labelled, *vectors, "-o", "gallery")
    assert code == 0, errors
    before = Gallery.load(Path("gallery"))
    assert sorted(before.ids)[:2] == ["sku-00000", "sku-00001"]
    cached = ("--cache", "kept")
    code, _, errors = csd("check", models["weak"], models["good"], *labelled, *vectors, *cached)
    assert code == 0, errors
    plan = ("upgrade", "plan", models["weak"], models["good"], *labelled, *cached, "--gallery", "gallery", "-o", "plan")
    values = (Path(__file__).parents[2] / "csd_core/upgrade/default_policy.yaml").read_text()
    Path("policy.yaml").write_text(values.replace("[keep, adapt, merge, partial, backfill]", "[backfill]"))
    files = sorted(Path("kept").rglob("*.parquet"))
    assert sum(pq.read_metadata(file).num_rows for file in files) == 600  # of the new model; the old one's were given
    code, _, errors = csd(*plan, "--policy", "policy.yaml")
    assert code == 0, errors
    (team / "empty").mkdir()  # no image is needed any more
    code, printed, errors = csd(
        "upgrade", "apply", "plan", "--images", team / "empty", "--gallery", "gallery", *cached, "-o", "after"
    )
    assert code == 0, errors
    assert "after: 600 rows embedded, 0 mapped, 0 kept, 0 added, 0 failed" in printed
    after = Gallery.load(Path("after"))
    assert after.ids.tolist() == before.ids.tolist()
    known = {
        identity: row
        for file in files
        for ids, rows in open_vectors(file).batches()
        for identity, row in zip(ids, rows, strict=True)
    }
    assert len(known) == 600
    assert {row.tobytes() for row in known.values()} == {row.tobytes() for row in np.asarray(after.vectors)}


def test_every_kind_of_file_gives_the_same_vectors_in_batches(tmp_path):
    vectors = np.random.default_rng(0).normal(size=(25, 4)).astype(np.float32)
    ids = [str(100 + row) for row in range(25)]
    np.save(tmp_path / "a.npy", vectors)
    (tmp_path / "a.ids.txt").write_text("\n".join(ids) + "\n")
    table(tmp_path / "b.parquet", ids, vectors)
    lists = pa.table({"id": ids, "embedding": vectors.tolist()})
    pq.write_table(lists, tmp_path / "lists.parquet")
    lancedb.connect(tmp_path).create_table("c", pq.read_table(tmp_path / "b.parquet"))
    index = faiss.IndexIDMap(faiss.IndexFlatIP(4))
    index.add_with_ids(vectors, np.array(ids, np.int64))
    faiss.write_index(index, str(tmp_path / "d.faiss"))
    for name in ("a.npy", "b.parquet", "lists.parquet", "c.lance", "d.faiss"):
        source = open_vectors(tmp_path / name)
        assert (source.rows, source.dimension) == (25, 4)
        found = {identity: row for some, rows in source.batches() for identity, row in zip(some, rows, strict=True)}
        assert sorted(found) == ids
        assert np.array_equal(np.stack([found[identity] for identity in ids]), vectors)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.parquet", r"there is no such file of vectors"),
        ("text.txt", r"cannot be read from .txt"),
        ("alone.npy", r"its 2 vectors have no ids; put them in alone.ids.txt"),
        ("flat.npy", r"holds float64 \(4,\); vectors are real numbers"),
        ("complex.npy", r"holds complex64 \(2, 3\); vectors are real numbers"),
        ("wide.npy", r"wide.ids.txt: is not UTF-8"),
        ("later.parquet", r"has vectors of 2 and 1 dimensions"),
        ("bytes.parquet", r"its ids are binary that is no text"),
        ("twice.parquet", r"has several columns id"),
        ("null.parquet", r"has no rows with a vector"),
        ("broken.npy", r"not a whole .npy file"),
        ("broken.parquet", r"is not a whole Parquet file"),
        ("ragged.parquet", r"has vectors of 1 and 2 dimensions"),
        ("two.parquet", r"2 columns hold lists of floats \(one, other\); call that of the vectors vector"),
        ("broken.faiss", r"FAISS cannot give its vectors"),
        ("broken.lance", r"has no table broken"),
    ],
)
def test_what_holds_no_vectors_is_refused_in_one_line(name, message, tmp_path):
    for empty in ("text.txt", "broken.npy", "broken.parquet", "broken.faiss"):
        (tmp_path / empty).write_text("nothing")
    (tmp_path / "broken.lance").mkdir()
    np.save(tmp_path / "alone.npy", np.ones((2, 3)))
    np.save(tmp_path / "flat.npy", np.ones(4))
    pq.write_table(pa.table({"id": ["a", "b"], "vector": [[1.0], [1.0, 2.0]]}), tmp_path / "ragged.parquet")
    pq.write_table(pa.table({"id": ["a"], "one": [[1.0]], "other": [[1.0]]}), tmp_path / "two.parquet")
    np.save(tmp_path / "complex.npy", np.ones((2, 3), np.complex64))
    np.save(tmp_path / "wide.npy", np.ones((2, 3)))
    (tmp_path / "wide.ids.txt").write_text("a\nb\n", "utf-16")
    later = {"id": [str(row) for row in range(BATCH_ROWS + 5)], "vector": [[1.0, 2.0]] * BATCH_ROWS + [[1.0]] * 5}
    pq.write_table(pa.table(later), tmp_path / "later.parquet")
    pq.write_table(pa.table({"id": [b"\xff"], "vector": [[1.0]]}), tmp_path / "bytes.parquet")
    twice = pa.table([["a"], ["a"], [[1.0]]], names=["id", "id", "vector"])
    pq.write_table(twice, tmp_path / "twice.parquet")
    pq.write_table(
        pa.table({"id": ["a"], "vector": pa.array([None], pa.list_(pa.float32()))}), tmp_path / "null.parquet"
    )
    with pytest.raises((ArtifactError, CompatibilityError), match=message) as caught:
        list(open_vectors(tmp_path / name).batches())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,class\na,x\na,y\n", r"id a occurs twice"),
        ("id,klass\na,x\n", r"has no column class; its columns are id, klass"),
        ("name,class\na,x\n", r"has no column id"),
        ("id,class\na,\n", r"row 1 has the class \"\""),
        ("id,class\n", r"has no rows"),
        ("id,class\na,x\n,y\n", r"row 2 has no id"),
        ("id,class,class\na,x,y\n", r"two columns have one name"),
        ("id,class\na,x\n".encode("utf-16"), r"cannot be read as a table .*; write it again, as UTF-8"),
        ("path,class\na.png,x\n", r"has no column sku; its columns are path, class"),
    ],
)
def test_labels_that_say_too_little_are_refused(text, message, tmp_path):
    (tmp_path / "labels.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=message):
        read_labels(tmp_path / "labels.csv", id_column="sku" if "sku" in message else "id")


def test_tables_as_other_tools_write_them_are_read(tmp_path):
    odd = ["é\u2028one", "日本"]
    (tmp_path / "labels.csv").write_bytes(b"\xef\xbb\xbf" + f'id,class\r\n{odd[0]},"x, y"\r\n{odd[1]},z\r\n'.encode())
    labels = read_labels(tmp_path / "labels.csv")
    assert (labels.ids.tolist(), labels.classes.tolist()) == (odd, ["x, y", "z"])
    images = pa.table({"id": [7, 8], "class": ["x", "y"], "image": [b"\xff\xd8"] * 2})
    pq.write_table(images, tmp_path / "labels.parquet")
    assert read_labels(tmp_path / "labels.parquet").ids.tolist() == ["7", "8"]
    np.save(tmp_path / "a.npy", np.eye(2, 3))
    (tmp_path / "a.ids.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(odd).encode())
    ((ids, _),) = open_vectors(tmp_path / "a.npy").batches()
    assert ids.tolist() == odd
    gaps = pa.table({"id": ["a", "b", None], "vector": [None, [1.0, 2.0], [1.0, 2.0]]})
    pq.write_table(gaps, tmp_path / "gaps.parquet")
    ((ids, vectors),) = open_vectors(tmp_path / "gaps.parquet").batches()
    assert (ids.tolist(), vectors.tolist()) == (["b"], [[1.0, 2.0]])


def test_a_model_that_maps_everything_to_one_vector_is_refused(tmp_path):
    ids = np.array(["a", "b", "c"])
    np.save(tmp_path / "a.npy", np.ones((3, 4)) * [[1], [2], [3]])
    with pytest.raises(CompatibilityError, match="all 3 vectors point the same way"):
        read_given(open_vectors(tmp_path / "a.npy", ids=ids), ids, name="a.npy")


def test_ids_keep_their_zeros_and_other_columns_are_of_no_matter(tmp_path):
    (tmp_path / "labels.csv").write_text("class,sku,group\n7,007,one\n8,008,\n")
    labels = read_labels(tmp_path / "labels.csv", id_column="sku")
    assert (labels.ids.tolist(), labels.classes.tolist(), labels.groups.tolist()) == (
        ["007", "008"],
        ["7", "8"],
        ["one", ""],
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "no old model; give its ONNX file, or vectors that it made (--old-vectors)"),
        (("--old-vectors", "weak.parquet"), "no new model"),
        (("--old-vectors", "weak.parquet", "--new-vectors", "good.parquet", "--labels", "none.csv"), "no such table"),
    ],
)
def test_what_is_missing_is_named(csd, team, options, message):
    code, _, errors = csd("check", *options)
    assert code not in (0, 7, 8)
    assert message in errors
    assert errors.count("\n") == 1


def test_items_of_one_group_share_a_role(csd, team, digits):
    rows = [f"{row},{label},{label}-{row // 30}" for row, label in enumerate(digits[1])]
    (team / "grouped.csv").write_text("id,class,group\n" + "\n".join(rows))
    collection = read_labelled(read_labels(team / "grouped.csv"))
    roles = assign_roles(collection, gallery=None, new_classes=(), seed=1)
    found = {}
    for group, split in zip(collection.groups.tolist(), roles.splits.tolist(), strict=True):
        found.setdefault(group, set()).add(split)
    assert {len(splits) for splits in found.values()} == {1}
    assert {split for splits in found.values() for split in splits} == {"train", "select", "gate"}


def test_an_item_of_its_own_group_is_no_answer(csd, team, digits, maps):
    """Copies under other ids: found first, they would make every query a hit."""
    vectors = {name: np.tile(vectors_by(maps, name, digits), (2, 1)) for name in ("weak", "good")}
    ids = [f"{copy}-{row:05}" for copy in "ab" for row in range(len(digits[1]))]
    for name, each in vectors.items():
        table(team / f"twice-{name}.parquet", ids, each)
    rows = [f"{identity},{label},{identity[2:]}" for identity, label in zip(ids, np.tile(digits[1], 2), strict=True)]
    (team / "twice.csv").write_text("id,class,group\n" + "\n".join(rows))
    arguments = ("--old-vectors", team / "twice-weak.parquet", "--new-vectors", team / "twice-good.parquet")
    _, _, report = checked(csd, *arguments, "--labels", team / "twice.csv")
    collection = read_labelled(read_labels(team / "twice.csv"))
    roles = assign_roles(collection, gallery=None, new_classes=(), seed=1)
    gate = {identity[2:] for identity in collection.items.ids[roles.splits == "gate"]}
    asked = np.array([int(each) for each in sorted(gate)])
    old = vectors_by(maps, "weak", digits)
    assert report.status_quo.overall.recall_at_1 == pytest.approx(recall(old, old, digits[1], asked), abs=1e-9)
