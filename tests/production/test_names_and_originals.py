"""What people know an item by, its file's name and a small picture of its original, from the source to a hit."""

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from indices import MANY, index_of
from PIL import Image
from projects import Project, pixels_of
from ruamel.yaml import YAML

from csd_core.commands.production import items
from csd_core.data.thumbnails import ThumbnailWriter
from csd_core.live.images import picture
from csd_core.live.index import nearest
from csd_core.live.rows import IMAGES, LiveItems, StoredImages, schema
from csd_core.live.rules import SearchRules
from csd_core.live.search import Snapshot
from csd_core.live.storage.columns import ADDED
from csd_core.live.storage.fingerprints import fingerprints
from csd_core.releases.publish import publish
from csd_core.releases.rollback import rollback

NAMES = ('shoe/it\'s "new" <script>.jpg', "shoe/\N{HIRAGANA LETTER KU}\N{HIRAGANA LETTER TU}.jpg", "shoe/" + "x" * 240)
KNOWN = ["source", "path", "thumbnail"]


def thumbnail(number):
    return f"thumbnail {number}".encode()


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A project of two tasks; the first items of the first have names of their own, two of them thumbnails."""
    project = Project(tmp_path_factory.mktemp("template") / "project", tasks=("t1", "t2"))
    project.promote("t1", "none").promote("t2", "backfill")
    file = project.files.shard("t1") / "items.parquet"
    table = pq.read_table(file)
    paths = [*NAMES, *table["path"].to_pylist()[len(NAMES) :]]
    pq.write_table(table.set_column(table.column_names.index("path"), "path", pa.array(paths)), file)
    canonical = project.files.source("digits")
    canonical.mkdir(parents=True)
    with ThumbnailWriter(canonical) as writer:
        writer.append(table["id"].to_pylist()[:3], [thumbnail(0), None, thumbnail(2)])
    return project


@pytest.fixture
def project(template, tmp_path, monkeypatch):
    project = template.copied_to(tmp_path / "project")
    monkeypatch.chdir(project.root)
    return project


def configure(**live):
    path = Path("params.yaml")
    values = YAML(typ="safe").load(path)
    values["live"] |= live
    with path.open("w", encoding="utf-8") as file:
        YAML().dump(values, file)


def known(project, *positions):
    """What the active table has of the first task's items, in order."""
    ids = project.pool("t1").ids[list(positions)].tolist()
    rows = project.production.live.rows(project.active().table, ids=ids, columns=["id", *IMAGES]).to_pylist()
    by_id = {row["id"]: row for row in rows}
    return [by_id[identity] for identity in ids]


def test_names_and_thumbnails_of_the_source_are_published_found_and_survive_a_rollback(project):
    publish(project.production, task="t1")
    first = known(project, 0, 1, 2, 3)
    assert [row["path"] for row in first[:3]] == list(NAMES)
    assert {row["source"] for row in first} == {"digits"}
    assert [row["thumbnail"] for row in first] == [thumbnail(0), None, thumbnail(2), None]
    hits = project.search(project.pool("t1").images(np.arange(3)), k=1)
    assert hits.paths[:, 0].tolist() == list(NAMES)
    assert set(hits.sources[:, 0].tolist()) == {"digits"}
    publish(project.production, task="t2")
    rollback(project.production, why="back")
    assert known(project, 0, 1, 2, 3) == first
    assert project.findings() == ()


@pytest.mark.parametrize("size", [None, 0])
def test_without_the_parameter_no_thumbnail_is_published(project, size):
    configure(thumbnails=size)
    publish(project.production, task="t1")
    assert {row["thumbnail"] for row in known(project, 0, 1, 2)} == {None}
    assert [row["path"] for row in known(project, 0, 1, 2)] == list(NAMES)


def test_where_images_are_references_the_thumbnail_is_fetched_from_the_canonical_set(project):
    configure(images="reference")
    publish(project.production, task="t1")
    rows = known(project, 0, 1, 2)
    assert [row["thumbnail"] for row in rows] == [None] * 3
    form = project.model("t1").metadata.form
    found = [picture(row, form=form, size=64, root=project.root) for row in rows]
    assert found == [thumbnail(0), None, thumbnail(2)]
    assert picture(rows[0], form=form, size=None, root=project.root) is None
    for file in project.files.source("digits").iterdir():
        file.unlink()
    assert picture(rows[0], form=form, size=64, root=project.root) is None


@pytest.mark.parametrize("kept", ["store", "reference"])
def test_a_file_that_is_put_keeps_its_name_without_its_folders_and_its_picture(project, kept, capsys):
    configure(images=kept, thumbnails=32)
    publish(project.production, task="t1")
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 80, 3), np.uint8)).save("red shoe.png")
    capsys.readouterr()
    items.app(
        ["put", str(project.root / "red shoe.png"), "--label", "t1-a", "--id", "mine"], result_action="return_value"
    )
    live, table = project.production.live, project.active().table
    (row,) = live.rows(table, ids=["mine"], columns=["id", *IMAGES]).to_pylist()
    assert (row["path"], row["source"], row["thumbnail"] is None) == ("red shoe.png", None, kept == "reference")
    form = project.model("t1").metadata.form
    shown = picture(row, form=form, size=32, root=project.root)
    assert Image.open(io.BytesIO(shown)).size == (32, 16)
    items.app(["show", "mine"], result_action="return_value")
    assert ("JPEG of" in capsys.readouterr().out) == (kept == "store")
    items.app(["list", "--origin", "live"], result_action="return_value")
    assert "red shoe.png" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("/srv/photos/a.jpg", "a.jpg"),
        ("photos/b\n.jpg", "b\\n.jpg"),
        ("https://x.example/y/red%20shoe.jpg?token=secret", "red shoe.jpg"),
        ("https://x.example/", None),
    ],
)
def test_no_folder_host_or_query_of_an_address_becomes_a_name(address, name):
    assert items._name(address) == name


def test_what_people_wrote_keeps_name_and_thumbnail_through_an_upgrade(project):
    publish(project.production, task="t1")
    image = pixels_of(1, 1, seed=8)
    (identity,) = project.put(image, "t1-a", stored={"thumbnails": [thumbnail(9)], "paths": ["mine.jpg"]})
    publish(project.production, task="t2")  # a backfill: its image is embedded again
    rows = project.production.live.rows(project.active().table, ids=[identity], columns=[*KNOWN, "origin"])
    assert rows.to_pylist() == [{"source": None, "path": "mine.jpg", "thumbnail": thumbnail(9), "origin": "live"}]


# --- a gallery that an earlier csd made -----------------------------------------------------------------------------


@pytest.fixture
def old(live, gallery_of_items):
    """Table `g` without the columns of names and originals, tagged."""
    gallery = gallery_of_items(60)
    live.build("new", gallery, origin="pipeline", images=None)
    rows = live.rows("new").drop_columns([each.name for each in ADDED])
    live._tables.create("g", rows.schema, rows.to_batches())
    live.tag("g", "release-1")
    live.drop("new")
    return gallery


def item(gallery, name, path, *, row=0):
    return LiveItems(
        ids=np.array([name]),
        labels=np.array(["a"]),
        vectors=gallery.vectors[row : row + 1],
        embedded_by="model-1",
        images=StoredImages([b"png"], [None], [b"small"], paths=[path]),
    )


@pytest.mark.parametrize("indexed", [False, True], ids=["exact", "index"])
def test_an_older_gallery_is_searched_and_takes_names_from_the_first_write_on(live, old, indexed, monkeypatch):
    monkeypatch.setattr(nearest, "FEW", MANY)
    index = index_of(live, "g", SearchRules.by_cosine("model-1", dimension=8)) if indexed else None

    def first(version=None):
        rules = SearchRules.by_cosine("model-1", dimension=8)
        snapshot = Snapshot.load(live, "g", rules, version=version, index=index)
        hits = snapshot.search(old.vectors[5:6], k=1)
        return hits.ids[0, 0], hits.sources[0, 0], hits.paths[0, 0]

    before = live.digest("g", version="release-1", whole=True), live.digest("g", whole=True)
    assert first() == ("item-5", "", "")
    live.upsert("g", item(old, "item-5", "five.jpg", row=5))
    assert live.rows("g", ids=["item-5", "item-6"], columns=["id", *KNOWN]).sort_by("id").to_pylist() == [
        {"id": "item-5", "source": None, "path": "five.jpg", "thumbnail": b"small"},
        {"id": "item-6", "source": None, "path": None, "thumbnail": None},
    ]
    assert live.digest("g", version="release-1", whole=True) == before[0]
    assert live.digest("g", whole=True) != before[1]
    assert first("release-1") == ("item-5", "", "")
    assert first() == ("item-5", "", "five.jpg")


def test_an_older_gallery_is_erased_from_and_compacted_across_the_change(live, old, files_with, tmp_path):
    live.upsert("g", item(old, "added", "of a person.jpg"))
    live.tag("g", "release-2")
    live.compact("g")
    assert live.rows("g", ids=["added"], columns=KNOWN).to_pylist()[0]["path"] == "of a person.jpg"
    live.erase(["added"])
    assert files_with(tmp_path / "live", b"of a person.jpg") == []
    assert [live.count("g", version=tag) for tag in ("release-1", "release-2")] == [60, 60]


def test_a_row_without_names_has_the_fingerprint_that_an_earlier_csd_gave_it(live, old):
    (row,) = live.rows("g", ids=["item-3"]).to_pylist()
    texts = ["id", "label", "task", "split", "embedded_by", "adapters", "space", "origin", "image_ref"]
    head = json.dumps([*(row[name] for name in texts), None, None], ensure_ascii=False)
    expected = hashlib.sha256(head.encode() + np.array(row["vector"], np.float32).tobytes()).digest()
    for rows in (live.rows("g"), live.rows("g", columns=schema(8).names)):
        assert dict(fingerprints(rows.to_batches(), whole=False))["item-3"] == expected


@pytest.mark.parametrize("column", KNOWN)
def test_a_change_of_a_name_or_a_thumbnail_changes_the_fingerprint(live, old, column):
    live.upsert("g", item(old, "x", "x.jpg"))
    rows = live.rows("g", ids=["x"])
    field = rows.schema.field(column)
    other = pa.array([b"other" if column == "thumbnail" else "other"], field.type)
    changed = rows.set_column(rows.column_names.index(column), field, other)
    before, after = (dict(fingerprints(each.to_batches(), whole=True))["x"] for each in (rows, changed))
    assert before != after
