"""`csd embed`, as a person runs it."""

import pyarrow.parquet as pq
import pytest
from cyclopts import App
from projects import Project, pixels_of

from csd_core.commands.production.embed import embed
from csd_core.live.images import encode_png
from csd_core.releases.publish import publish
from csd_core.system.errors import ArtifactError, DataError, ParamsError

IMAGES = 5


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project in the current folder with an active release, and photos to embed."""
    project = Project(tmp_path / "project", tasks=("t1",))
    project.promote("t1", "none")
    publish(project.production)
    photos = project.root / "photos"
    photos.mkdir()
    for number, image in enumerate(pixels_of(0, IMAGES, seed=5)):
        (photos / f"{number}.png").write_bytes(encode_png(image))
    monkeypatch.chdir(project.root)
    monkeypatch.setattr("csd_core.system.console.console.width", 250)
    return project


def run(*arguments):
    app = App(version_flags=[], result_action="return_value")
    app.default(embed)
    app(arguments)


def test_by_default_the_model_in_force_embeds(project, capsys):
    run("photos", "-o", "out.parquet")
    model = project.active().record.model
    assert capsys.readouterr().out == f"out.parquet: {IMAGES} vectors of 16 dimensions, model {model[:12]}\n"
    assert pq.read_schema("out.parquet").metadata[b"csd.model"] == model.encode()


def test_a_model_file_needs_no_project(project, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = project.files.candidate_embedder("t1")
    run(
        str(project.root / "photos"), "--output", "out.parquet", "--model", str(model), "--batch", "2", "--threads", "3"
    )
    assert f"{IMAGES} vectors" in capsys.readouterr().out


def test_what_was_rejected_is_counted(project, capsys):
    (project.root / "photos" / "notes.txt").write_text("no image")
    run("photos", "-o", "out.parquet")
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"1 of {IMAGES + 1} files have no vector; out.rejected.csv says why"
    assert second.startswith(f"out.parquet: {IMAGES} vectors")


def test_an_output_is_replaced_only_when_told(project):
    run("photos", "-o", "out.parquet")
    before = (project.root / "out.parquet").read_bytes()
    with pytest.raises(ParamsError, match="out.parquet: is there already"):
        run("photos", "-o", "out.parquet")
    run("photos", "-o", "out.parquet", "--overwrite")
    assert (project.root / "out.parquet").read_bytes() == before


def test_what_is_missing_is_named(project):
    with pytest.raises(DataError, match="nowhere: there is no such folder"):
        run("nowhere", "-o", "out.parquet")
    with pytest.raises(ArtifactError, match="no.onnx: there is no such model"):
        run("photos", "-o", "out.parquet", "--model", "no.onnx")
    (project.root / "releases" / "current").unlink()
    with pytest.raises(ArtifactError, match="no release is active"):
        run("photos", "-o", "out.parquet")
