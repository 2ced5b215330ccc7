"""A release whose old rows the older model's queries go on searching: published, written to, completed, rolled back."""

import json
import shutil

import numpy as np
import pytest
from indices import index_of
from projects import Project, content_ids, pixels_of
from ruamel.yaml import YAML
from test_int8 import INT8, quantise

from csd_core.live.index import nearest
from csd_core.live.search import Snapshot
from csd_core.releases.backfill.finish import complete
from csd_core.releases.contents.release import Release, ReleaseRecord
from csd_core.releases.publish import publish
from csd_core.releases.rollback import rollback
from csd_core.releases.verify import _older, verify
from csd_core.retrieval.embedder import digest_of
from csd_core.retrieval.gallery import Gallery
from csd_core.system.errors import ArtifactError

OLD, NEW = pixels_of(0, 3, seed=7), pixels_of(2, 3, seed=7)
"""Images of classes that came with t1 and t2."""


def built(root, *, narrow=16, wide=24, tasks=("t1", "t2")):
    """Two releases: t1's with one live row, and t2's under merge."""
    project = Project(root, tasks=tasks)
    project.promote("t1", "none", dimension=narrow)
    quantise(project, "t1")
    publish(project.production, task="t1")
    project.put(pixels_of(40, 1, seed=1), "early")
    project.promote("t2", "merge", dimension=wide, drift=3.0)
    publish(project.production, task="t2")
    return project


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return built(tmp_path_factory.mktemp("template") / "project", tasks=("t1", "t2", "t3"))


@pytest.fixture
def project(template, tmp_path):
    return template.copied_to(tmp_path / "project")


def models(project):
    """Digests of the champions after t1 and t2."""
    return project.model("t1").digest, project.model("t2").digest


def row_of(project, images):
    return project.rows()[content_ids(images)[0]]


def test_the_record_names_both_models_their_spaces_and_the_scores(project):
    release, (old, new) = project.active(), models(project)
    assert (release.record.model, release.record.dimension, release.record.strategy) == (new, 24, "merge")
    assert release.older_models == (old,)
    assert {name: each.file for name, each in release.queries_of(new).items()} == {"fp32": "embedder.onnx"}
    assert {name: each.file for name, each in release.queries_of(old).items()} == {
        "fp32": f"lineage/{old}.onnx",
        "int8": f"queries/{old}.int8.onnx",
    }
    assert release.rules.spaces == {new: (new,), old: (old,)}
    assert release.record.scoring == Gallery.load(project.files.gallery("t2")).scoring
    assert digest_of(release.folder / f"lineage/{old}.onnx") == old
    champion = project.files.champion_embedder("t1")
    assert (release.folder / f"queries/{old}.int8.onnx").read_bytes() == (champion / INT8).read_bytes()
    assert project.findings() == ()


def test_each_item_is_found_by_the_model_of_its_rows_and_scores_merge_the_answers(project):
    old, new = models(project)
    for images, label, model in ((OLD, "t1-a", old), (NEW, "t2-a", new)):
        hits = project.search(images, k=5)
        assert set(hits.labels.ravel().tolist()) == {label}
        assert set(hits.found_by.ravel().tolist()) == {model}
        assert np.all(np.diff(hits.scores) <= 0)
    both = project.search(OLD, k=90)
    assert set(both.found_by.ravel().tolist()) == {old, new}
    scoring = {group.query_model: group.score for group in project.active().record.scoring}
    for score, cosine, model in zip(both.scores[0], both.cosines[0], both.found_by[0].tolist(), strict=True):
        assert score == pytest.approx(float(scoring[model](cosine)), abs=1e-3)


def test_rows_keep_the_older_models_vectors_and_end_in_zeros(project):
    old, new = models(project)
    rows = project.rows()
    widths = {each["embedded_by"]: np.flatnonzero(each["vector"]).max() for each in rows.values()}
    assert widths == {old: 15, new: 23}
    assert {len(each["vector"]) for each in rows.values()} == {24}


def test_a_row_written_under_the_former_release_stays_in_its_space_and_new_ones_are_the_new_models(project):
    old, new = models(project)
    early = row_of(project, pixels_of(40, 1, seed=1))
    assert (early["embedded_by"], early["space"], early["origin"]) == (old, old, "live")
    project.put(pixels_of(41, 1, seed=1), "late")
    late = row_of(project, pixels_of(41, 1, seed=1))
    assert (late["embedded_by"], late["space"], len(late["vector"])) == (new, new, 24)
    for kind, label, model in ((40, "early", old), (41, "late", new)):
        hits = project.search(pixels_of(kind, 1, seed=1), k=1)
        assert (hits.labels[0, 0], hits.found_by[0, 0]) == (label, model)
    assert project.findings() == ()


def test_a_new_model_with_fewer_dimensions_than_the_older_one_writes_rows_that_end_in_zeros(tmp_path):
    project = built(tmp_path / "project", narrow=24, wide=8)
    project.put(pixels_of(41, 1, seed=1), "late")
    late = row_of(project, pixels_of(41, 1, seed=1))
    assert (len(late["vector"]), np.flatnonzero(late["vector"]).max()) == (24, 7)
    assert project.search(pixels_of(41, 1, seed=1), k=1).labels.tolist() == [["late"]]
    assert project.findings() == ()
    complete(project.production, why="the rest")
    assert {len(each["vector"]) for each in project.rows().values()} == {8}
    assert project.findings() == ()


def test_a_backfill_to_the_end_drops_the_older_model_and_the_scores(project):
    _, new = models(project)
    project.put(pixels_of(41, 1, seed=1), "late")
    release = complete(project.production, why="the rest")
    assert (release.record.kind, release.record.scoring, release.older_models) == ("backfill", (), ())
    assert [each.digest for each in release.record.query_models] == [new]
    assert release.searchable_spaces == (new,)
    assert {each["embedded_by"] for each in project.rows().values()} == {new}
    assert not (release.folder / "queries").exists()
    assert sorted(path.name for path in (release.folder / "lineage").glob("*.onnx")) == [f"{new}.onnx"]
    hits = project.search(OLD, k=3)
    np.testing.assert_array_equal(hits.scores, hits.cosines)
    assert project.findings() == ()
    assert complete(project.production, why="again") is None


def test_a_backfill_keeps_the_older_model_for_rows_whose_images_cannot_be_had(template, tmp_path):
    project = Project(tmp_path / "project", tasks=("t1", "t2"))
    project.promote("t1", "none")
    publish(project.production, task="t1")
    project.put(pixels_of(40, 1, seed=1), "early", keep_images=False)
    project.promote("t2", "merge", dimension=24)
    publish(project.production)
    old, new = models(project)
    release = complete(project.production, why="the rest")
    assert release.older_models == (old,)
    assert {group.embedded_by for group in release.record.scoring} == {old, new}
    assert [each["label"] for each in project.rows().values() if each["embedded_by"] == old] == ["early"]
    hits = project.search(pixels_of(40, 1, seed=1), k=1)
    assert (hits.labels[0, 0], hits.found_by[0, 0]) == ("early", old)
    project.delete(content_ids(pixels_of(40, 1, seed=1)).tolist())
    assert complete(project.production, why="the last one is gone").older_models == ()
    assert project.findings() == ()


def test_a_rollback_to_one_model_and_back_again(project):
    old, new = models(project)
    project.put(pixels_of(41, 1, seed=1), "late")
    back = rollback(project.production, why="complaints")
    assert (back.record.model, back.older_models, back.rules.width) == (old, (), 16)
    assert {each["embedded_by"] for each in project.rows().values()} == {old}
    assert project.search(pixels_of(41, 1, seed=1), k=1).labels.tolist() == [["late"]]
    again = rollback(project.production, 2, why="it was not the model")
    assert (again.record.model, again.older_models, again.rules.width) == (new, (old,), 24)
    assert again.record.scoring == project.production.releases.get(2).record.scoring
    assert row_of(project, pixels_of(40, 1, seed=1))["embedded_by"] in (old, new)
    assert project.search(pixels_of(41, 1, seed=1), k=1).labels.tolist() == [["late"]]
    assert (again.folder / f"queries/{old}.int8.onnx").is_file()
    assert project.findings() == ()


@pytest.mark.parametrize("narrow", [16, 24], ids=["narrower", "as wide"])
def test_a_second_merge_takes_the_oldest_models_rows_along_and_keeps_the_newest_two(tmp_path, narrow):
    project = built(tmp_path / "project", narrow=narrow, tasks=("t1", "t2", "t3"))
    old, new = models(project)
    quantise(project, "t2")
    project.promote("t3", "merge", dimension=24)
    newest = project.model("t3").digest
    release = publish(project.production)
    assert release.older_models == (new,)
    assert release.queries_of(new).keys() == {"fp32", "int8"}
    early = row_of(project, pixels_of(40, 1, seed=1))
    taken = {(each["embedded_by"], bool(each["adapters"])) for each in project.rows().values()}
    assert taken == {(old, True), (new, False), (newest, False)}
    assert (early["embedded_by"], bool(early["adapters"]), early["space"]) == (old, True, newest)
    assert project.search(pixels_of(0, 1, seed=7), k=1).labels.tolist() == [["t1-a"]]
    assert project.findings() == ()


def test_a_refresh_keeps_both_models(project):
    old, new = models(project)
    project.put(pixels_of(41, 1, seed=1), "late")
    project.reject("t3")
    release = publish(project.production)
    assert (release.record.kind, release.older_models) == ("refresh", (old,))
    early, late = (row_of(project, pixels_of(kind, 1, seed=1)) for kind in (40, 41))
    assert (early["embedded_by"], late["embedded_by"]) == (old, new)
    assert project.search(pixels_of(4, 1, seed=7), k=1).labels.tolist() == [["t3-a"]]
    assert project.findings() == ()


def test_an_int8_variant_made_since_leaves_the_older_model_in_its_place(project):
    old, new = models(project)
    quantise(project, "t2")
    release = publish(project.production, task="t2")
    assert release.record.kind == "refresh"
    assert (release.queries_of(new).keys(), release.queries_of(old).keys()) == ({"fp32", "int8"},) * 2
    assert row_of(project, pixels_of(40, 1, seed=1))["embedded_by"] == old
    assert project.findings() == ()
    assert publish(project.production, task="t2") is None


def test_an_older_release_record_loads_and_means_one_model(project):
    first = project.production.releases.get(1)
    values = json.loads((first.folder / "release.json").read_text())
    del values["scoring"]
    for each in values["query_models"]:
        del each["older"]
    record = ReleaseRecord.model_validate(values)
    assert record == first.record
    former = Release(record=record, folder=first.folder)
    assert (former.older_models, former.rules) == ((), first.rules)


def test_an_erased_item_is_gone_from_rows_and_known_queries(project):
    known = json.loads((project.active().folder / "known" / "known.json").read_text())["queries"]
    item = next(each for each in known if project.rows()[each["item"]]["embedded_by"] == models(project)[0])["item"]
    production = project.production
    with production.releases.changing():
        report = production.live.erase([item])
        production.releases.forget([item], tagged=report.tagged, why="a person asked")
    left = json.loads((project.active().folder / "known" / "known.json").read_text())["queries"]
    assert item not in {each["item"] for each in left} | {name for each in left for name in each["ids"]}
    assert {(len(each["ids"]), len(each["scores"])) for each in left} == {
        (len(each["margins"]), len(each["margins"])) for each in left
    }
    assert item not in project.rows()
    assert project.findings() == ()


def test_a_retired_release_loses_the_older_models_files(project):
    second = project.active().folder
    values = YAML(typ="safe").load(project.root / "params.yaml")
    values["live"]["keep_releases"] = 2
    with (project.root / "params.yaml").open("w", encoding="utf-8") as file:
        YAML().dump(values, file)
    rollback(project.production, why="complaints")
    rollback(project.production, why="it was not the model")
    assert not (second / "queries").exists()
    assert not (second / "lineage").exists()
    assert project.findings() == ()


def test_an_exchanged_older_model_is_found_and_is_not_served(project):
    release, (old, _) = project.active(), models(project)
    shutil.copy(release.embedder, release.folder / "lineage" / f"{old}.onnx")
    (line,) = project.findings()
    assert f"lineage/{old}.onnx" in line


def test_a_record_that_lacks_the_older_query_model_is_found(project):
    release, (old, _) = project.active(), models(project)
    kept = tuple(each for each in release.record.query_models if each.older is None)
    release.record.model_copy(update={"query_models": kept}).save(release.folder / "release.json")
    production = project.production
    found = verify(production.releases, production.live).findings
    assert any("release.json" in line for line in found)
    (told,) = _older(Release.load(release.folder))
    assert told == f"rows are searched by model {old[:12]}, which the record does not name as a query model"


def test_a_champion_whose_older_query_model_is_gone_is_not_published(template, tmp_path):
    project = Project(tmp_path / "project", tasks=("t1", "t2"))
    project.promote("t1", "none").promote("t2", "merge")
    old = project.model("t1").digest
    record = project.files.lineage("t2") / "lineage.json"
    values = json.loads(record.read_text())
    values["models"].remove(old)
    record.write_text(json.dumps(values))
    with pytest.raises(ArtifactError, match=f"model {old[:12]} still searches rows of the gallery.*run `csd run`"):
        publish(project.production)


def test_an_index_answers_a_merged_release_too(project, monkeypatch):
    monkeypatch.setattr(nearest, "FEW", 16)
    release, live = project.active(), project.production.live
    index = index_of(live, release.table, release.rules)
    opened = Snapshot.load(live, release.table, release.rules, index=index)
    hits, exact = opened.search(project.queries(OLD), k=60), project.search(OLD, k=60)
    np.testing.assert_array_equal(hits.ids, exact.ids)
    np.testing.assert_allclose(hits.scores, exact.scores, atol=1e-3)
