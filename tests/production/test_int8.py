"""The champion's int8 variant in production; here a linear model whose weights were rounded."""

import shutil

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from projects import Project, pixels_of
from ruamel.yaml import YAML

from csd_core.live.search import Snapshot
from csd_core.records.verdict import Ledger
from csd_core.releases.backfill.finish import complete
from csd_core.releases.publish import publish
from csd_core.releases.rollback import rollback
from csd_core.releases.verify import problems_of
from csd_core.retrieval.embedder import Embedder, digest_of
from csd_core.retrieval.lineage import Lineage
from csd_core.system.errors import ArtifactError, CompatibilityError

INT8 = "embedder.int8.onnx"


def quantise(project, task):
    """Give the champion after a task a variant, as promote does; returns its digest."""
    folder = project.files.champion_embedder(task)
    model = onnx.load(folder / "embedder.onnx")
    (weights,) = (each for each in model.graph.initializer if each.name == "projection")
    rounded = numpy_helper.to_array(weights).round(1)
    weights.CopyFrom(numpy_helper.from_array(rounded, "projection"))
    onnx.save(model, folder / INT8)
    return digest_of(folder / INT8)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """Two releases with a variant each, the second under keep."""
    project = Project(tmp_path_factory.mktemp("template") / "project", tasks=("t1", "t2"))
    project.promote("t1", "none").promote("t2", "keep")
    quantise(project, "t1")
    quantise(project, "t2")
    publish(project.production, task="t1")
    publish(project.production)
    return project


@pytest.fixture
def project(template, tmp_path):
    return template.copied_to(tmp_path / "project")


def variants(release):
    return {model.variant: (model.digest, model.file) for model in release.record.query_models}


def test_a_release_lets_the_variant_search_whatever_the_model_may_search(project):
    release = project.active()
    champion = project.files.champion_embedder("t2")
    assert variants(release) == {
        "fp32": (release.record.model, "embedder.onnx"),
        "int8": (digest_of(champion / INT8), INT8),
    }
    assert (release.folder / INT8).read_bytes() == (champion / INT8).read_bytes()
    assert len(release.searchable_spaces) == 2
    assert release.spaces_for(digest_of(champion / INT8)) == release.searchable_spaces
    assert project.findings() == ()


def test_its_queries_find_what_the_models_queries_find(project):
    release, images = project.active(), np.concatenate([pixels_of(kind, 5, seed=3) for kind in (2, 3)])
    queries = Embedder.load(release.folder / INT8, device="cpu", threads=1)
    snapshot = Snapshot.load(
        project.production.live,
        release.table,
        release.rules,
    )
    found, expected = snapshot.search(queries(images), k=1), project.search(images, k=1)
    assert found.labels.tolist() == expected.labels.tolist()
    assert not np.array_equal(found.scores, expected.scores)


def test_rows_are_never_the_variants(project):
    release = project.active()
    (late,) = project.put(pixels_of(41, 1, seed=1), "late")
    rows = project.rows()
    assert rows[late]["embedded_by"] == release.record.model
    lineage = Lineage.load(release.folder / "lineage")
    made = {digest for digest, _ in variants(release).values()} - {release.record.model}
    assert made.isdisjoint({row["embedded_by"] for row in rows.values()} | lineage.models.keys())


def test_a_release_without_a_variant_has_the_model_alone(template, tmp_path):
    project = Project(tmp_path / "project", tasks=("t1",))
    project.promote("t1", "none")
    release = publish(project.production)
    assert variants(release).keys() == {"fp32"}
    assert not (release.folder / INT8).exists()
    with pytest.raises(CompatibilityError, match=r"may not search its gallery; embed queries with \w+ \(fp32\)$"):
        release.spaces_for(digest_of(template.files.champion_embedder("t1") / INT8))


def test_a_rollback_brings_the_earlier_variant_back(project):
    first = project.production.releases.get(1)
    release = rollback(project.production, why="complaints")
    assert variants(release) == variants(first)
    assert (release.folder / INT8).read_bytes() == (first.folder / INT8).read_bytes()
    assert project.findings() == ()


def test_a_backfill_of_the_live_gallery_keeps_the_variant_and_embeds_with_the_model(project):
    before = project.active()
    complete(project.production, why="the rest")
    release = project.active()
    assert (release.number, release.record.kind) == (3, "backfill")
    assert variants(release) == variants(before)
    assert {row["embedded_by"] for row in project.rows().values()} == {release.record.model}
    assert project.findings() == ()


def test_a_variant_that_was_exchanged_is_found(project):
    release = project.active()
    shutil.copy(project.files.champion_embedder("t1") / INT8, release.folder / INT8)
    (line,) = project.findings()
    assert f"release {release.name}: {INT8}" in line
    live, releases = project.production.live, project.production.releases
    checksums = releases.audit.read().checksums_of(release.name)
    assert list(problems_of(release, live, checksums=checksums, rows=False))


def test_a_retired_release_loses_its_variant(project):
    values = YAML(typ="safe").load(project.root / "params.yaml")
    values["live"]["keep_releases"] = 2
    with (project.root / "params.yaml").open("w", encoding="utf-8") as file:
        YAML().dump(values, file)
    rollback(project.production, why="complaints")
    folders = [folder for folder in sorted((project.root / "releases").iterdir()) if folder.is_dir()]
    assert [(folder / INT8).exists() for folder in folders] == [False, True, True]
    assert project.findings() == ()


def test_a_variant_that_was_made_since_comes_into_force_by_itself(tmp_path):
    project = Project(tmp_path / "project", tasks=("t1",))
    project.promote("t1", "none")
    publish(project.production)
    (late,) = project.put(pixels_of(40, 1, seed=1), "late")
    digest = quantise(project, "t1")
    release = publish(project.production)
    assert (release.number, release.record.kind) == (2, "refresh")
    assert variants(release)["int8"] == (digest, INT8)
    assert late in project.rows()
    assert publish(project.production) is None
    (project.files.champion_embedder("t1") / INT8).unlink()
    assert variants(publish(project.production)).keys() == {"fp32"}
    assert project.findings() == ()


def test_a_variant_that_was_made_since_leaves_rows_that_a_backfill_completed(tmp_path):
    project = Project(tmp_path / "project", tasks=("t1", "t2"))
    project.promote("t1", "none").promote("t2", "keep")
    publish(project.production, task="t1")
    publish(project.production)
    complete(project.production, why="the rest")
    project.delete([next(iter(project.rows()))])
    before = project.rows()
    quantise(project, "t2")
    release = publish(project.production)
    assert (release.record.kind, release.record.strategy) == ("refresh", "backfill")
    assert project.rows() == before
    assert variants(release).keys() == {"fp32", "int8"}
    assert (release.folder / "params.yaml").read_bytes() == (project.root / "params.yaml").read_bytes()
    assert project.findings() == ()


def test_a_rejected_task_is_published_with_the_champions_variant(tmp_path):
    project = Project(tmp_path / "project", tasks=("t1", "t2"))
    project.promote("t1", "none")
    digest = quantise(project, "t1")
    project.reject("t2")
    publish(project.production, task="t1")
    release = publish(project.production)
    assert Ledger.load(project.files.ledger("t2")).entries[-1].outcome == "rejected"
    assert (release.record.kind, variants(release)["int8"]) == ("refresh", (digest, INT8))


@pytest.mark.parametrize("damage", ["other", "broken"])
def test_a_variant_of_another_model_or_a_damaged_one_is_not_published(tmp_path, damage):
    project = Project(tmp_path / "project", tasks=("t1", "t2"))
    project.promote("t1", "none").promote("t2", "keep")
    publish(project.production, task="t1")
    quantise(project, "t1")
    target = project.files.champion_embedder("t2") / INT8
    if damage == "other":
        shutil.copy(project.files.champion_embedder("t1") / INT8, target)
        message = r"artifacts/t2/.*int8.onnx: not a variant of the embedder.onnx beside it; run `csd run`"
    else:
        target.write_bytes(b"\x00")
        message = r"int8.onnx: onnxruntime cannot load it"
    with pytest.raises(ArtifactError, match=message):
        publish(project.production)
    assert project.active().number == 1
    assert Embedder.load(project.active().embedder).digest == project.active().record.model
