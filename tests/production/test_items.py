"""`csd items` against an active release."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from projects import SIZE, Project, content_ids
from ruamel.yaml import YAML

from csd_core.commands.production import items
from csd_core.live.images import content_id
from csd_core.releases.publish import publish
from csd_core.system.errors import ArtifactError, CsdError, DataError, ParamsError

ROWS = 48


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A project with two tasks, the first of them published."""
    project = Project(tmp_path_factory.mktemp("template") / "project", tasks=("t1", "t2"))
    project.promote("t1", "none").promote("t2", "backfill")
    publish(project.production, task="t1", why="the first")
    return project


@pytest.fixture
def project(template, tmp_path, monkeypatch) -> Project:
    """A copy of it, as the current folder."""
    project = template.copied_to(tmp_path / "project")
    monkeypatch.chdir(project.root)
    monkeypatch.setattr("csd_core.system.console.console.width", 250)
    return project


@pytest.fixture
def production(project):
    return project.production


@pytest.fixture
def pictures(project):
    """(48, 8, 8, 1) uint8: the published items."""
    return np.array(project.pool("t1").images(np.arange(ROWS)))


def configure(**live):
    path = Path("params.yaml")
    values = YAML(typ="safe").load(path)
    values["live"] |= live
    with path.open("w", encoding="utf-8") as file:
        YAML().dump(values, file)


def picture_file(path, seed=99):
    picture = np.random.default_rng(seed).integers(0, 256, (SIZE, SIZE, 1), np.uint8)
    Image.fromarray(picture[..., 0]).save(path)
    return picture


def run(*arguments):
    items.app(arguments, result_action="return_value")


def test_without_a_release_every_command_says_to_publish(tmp_path, monkeypatch):
    Project(tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    picture_file("x.png")
    for command in (
        ["list"],
        ["show", "x"],
        ["put", "x.png", "--label", "a"],
        ["search", "x.png"],
        ["index", "--why", "x"],
    ):
        with pytest.raises(ArtifactError, match="no release is active.*run `csd publish`"):
            run(*command)


def test_an_image_that_is_put_is_found_listed_and_shown(production, capsys):
    picture = picture_file("new.png")
    run("put", "new.png", "--label", "a [red]cat[/red]")
    identity = content_id(picture)
    assert capsys.readouterr().out.splitlines() == [identity, "1 added, 0 replaced in release 1"]
    run("search", "new.png", "-k", "2")
    first = capsys.readouterr().out.splitlines()[1]
    assert first.split()[:2] == ["1", identity]
    assert "a [red]cat[/red]" in first
    assert "1.0000" in first
    run("list", "--origin", "live")
    assert "1 of 1 items" in capsys.readouterr().out
    run("show", identity)
    shown = capsys.readouterr().out
    assert "16 dimensions" in shown
    assert "PNG of" in shown


def test_an_image_that_is_put_again_is_replaced(production, capsys):
    picture_file("new.png")
    run("put", "new.png", "--label", "a", "--id", "mine")
    run("put", "new.png", "--label", "b", "--id", "mine")
    assert "0 added, 1 replaced" in capsys.readouterr().out
    table = production.releases.active().table
    assert production.live.count(table) == ROWS + 1
    assert production.live.rows(table, ids=["mine"], columns=["label"]).to_pylist() == [{"label": "b"}]


def test_one_bad_image_among_several_writes_nothing(production):
    picture_file("new.png")
    with pytest.raises(DataError, match=r"gone.png: there is no such file"):
        run("put", "new.png", "gone.png", "--label", "a")
    with pytest.raises(ParamsError, match="put them one by one"):
        run("put", "new.png", "new.png", "--label", "a", "--id", "mine")
    with pytest.raises(ParamsError, match="is given twice"):
        run("put", "new.png", "new.png", "--label", "a")
    assert production.live.count(production.releases.active().table) == ROWS


def test_references_are_kept_instead_of_pixels_where_params_say_so(production):
    configure(images="reference")
    picture = picture_file("new.png")
    run("put", "new.png", "--label", "a")
    table = production.releases.active().table
    (row,) = production.live.rows(table, ids=[content_id(picture)], columns=["image", "image_ref"]).to_pylist()
    assert row == {"image": None, "image_ref": str(Path("new.png").resolve())}


def test_a_publish_between_embedding_and_writing_makes_put_embed_anew(production, monkeypatch, capsys):
    picture = picture_file("new.png")
    embed = items.embedder_of

    def embed_while_someone_publishes(*arguments):
        if production.releases.active().number == 1:
            embedder = embed(*arguments)
            publish(production, task="t2")
            return embedder
        return embed(*arguments)

    monkeypatch.setattr(items, "embedder_of", embed_while_someone_publishes)
    run("put", "new.png", "--label", "a")
    assert "1 added, 0 replaced in release 2" in capsys.readouterr().out
    release = production.releases.active()
    (row,) = production.live.rows(release.table, ids=[content_id(picture)], columns=["embedded_by"]).to_pylist()
    assert row["embedded_by"] == release.record.model
    assert production.live.count(production.releases.get(1).table) == ROWS


def test_search_takes_filters(production, capsys):
    picture_file("new.png")
    run("search", "new.png", "-k", "50", "--label", "t1-b")
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 1 + ROWS // 2 + 1
    assert "release 1, 48 rows, exact" in out
    run("search", "new.png", "--since", "2100-01-01")
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_deleted_items_are_gone_and_counted(production, pictures, capsys):
    run("delete", content_id(pictures[0]), "unknown", "--why", "asked")
    assert "1 of 2 items deleted" in capsys.readouterr().out
    with pytest.raises(DataError, match="has none of that id"):
        run("show", content_id(pictures[0]))


def test_the_index_is_built_above_the_limit_only_and_its_recall_printed(project, capsys):
    run("index", "--why", "many writes")
    assert "48 rows; up to live.exact_rows (200000) search is exact" in capsys.readouterr().out
    configure(exact_rows=10, index_probes=4)
    run("index", "--why", "many writes")
    assert "finds 100.0% of the 10 nearest of 48 rows" in capsys.readouterr().out
    picture_file("new.png")
    run("search", "new.png")
    assert "through the index" in capsys.readouterr().out


def test_compaction_says_what_it_did_and_the_release_stands(project, production, capsys):
    picture_file("new.png")
    for name in "abc":
        run("put", "new.png", "--label", "a", "--id", name)
    capsys.readouterr()
    run("compact")
    assert "51 rows;" in capsys.readouterr().out
    release = production.releases.active()
    assert production.live.count(release.table, version=release.tag) == ROWS
    assert project.findings() == ()


def test_an_erased_item_is_in_no_file_and_the_release_stands(project, production, pictures, capsys, files_with):
    release = production.releases.active()
    queries = json.loads((release.folder / "known" / "known.json").read_text("utf-8"))["queries"]
    identity = queries[0]["item"]
    picture = next(each for each in pictures if content_id(each) == identity)
    for folder in ("data", "artifacts"):  # as a pipeline that never had it
        shutil.rmtree(folder)
    assert len(files_with(project.root, identity.encode())) > 1
    assert files_with(project.root, picture.tobytes())
    run("erase", identity)
    assert "nothing of it is left here" in capsys.readouterr().out
    assert not files_with(project.root, identity.encode())
    assert not files_with(project.root, picture.tobytes())
    assert production.releases.active().record.rows == ROWS - 1
    assert project.findings() == ()
    Image.fromarray(picture[..., 0]).save("again.png")
    with pytest.raises(ParamsError, match="was erased"):
        run("put", "again.png", "--label", "a")


def test_an_erasure_says_where_the_pipeline_still_has_the_item_and_exits_with_7(project, pictures, capsys):
    identity = content_ids(pictures)[3]
    for place in ("data/sources/digits", ".dvc/cache/files/md5/ab"):
        Path(place).mkdir(parents=True)
    both = pa.table({"id": [identity, "other"], "path": ["3/seven.png", "x.png"]})
    pq.write_table(both, "data/sources/digits/items.parquet")
    pq.write_table(both, ".dvc/cache/files/md5/ab/cdef")
    Path(".dvc/cache/files/md5/ab/other").write_bytes(b"PAR1 but not really")
    Path("artifacts/t2/check.json").write_text(json.dumps({"flips": [identity]}), "utf-8")
    with pytest.raises(CsdError, match="the pipeline still has it in 6 files: remove the image") as caught:
        run("erase", identity)
    assert caught.value.exit_code == 8
    assert capsys.readouterr().out.splitlines()[1:] == [
        f"still in data/sources/digits/items.parquet: {identity} (the source's file 3/seven.png)",
        f"still in data/shards/t1/items.parquet: {identity} (the source's file {identity})",
        f"still in artifacts/t1/gallery/rows.parquet: {identity}",
        f"still in artifacts/t2/gallery/rows.parquet: {identity}",
        f"still in .dvc/cache/files/md5/ab/cdef: {identity} (the source's file 3/seven.png)",
        f"still in artifacts/t2/check.json: {identity}",
    ]


def test_the_commands_load_neither_torch_nor_dvc():
    script = "import sys, csd_core.commands.production.items; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert not {"torch", "dvc", "prefect"} & set(done.stdout.split())


@pytest.mark.parametrize("label", ["", "a ", "two\nlines"])
def test_a_class_that_no_task_could_have_writes_nothing(production, label):
    with pytest.raises(ParamsError, match="--label .*: a class"):
        run("put", str(production.workspace.root / "new.png"), "--label", label)
