import shutil
from typing import get_args

import pytest
from ruamel.yaml import YAML

from csd_core.params.file import load_params
from csd_core.params.upgrade import AdapterMethod
from csd_core.records.check import CheckReport
from csd_core.records.verdict import Promoted, Rejected
from csd_core.retrieval.embedder import digest_of
from csd_core.retrieval.gallery import Gallery
from csd_core.stages import adapt, check, export, train
from csd_core.upgrade.gate import judge
from csd_core.workspace import Workspace


@pytest.fixture
def project(checked_digits, tmp_path, monkeypatch):
    monkeypatch.chdir(shutil.copytree(checked_digits, tmp_path / "project"))
    return Workspace()


def report_of(files, task):
    return CheckReport.load(files.check(task))


def test_a_first_model_is_measured_alone(checked_digits):
    report = report_of(Workspace(checked_digits), "t1")
    assert [each.name for each in report.alternatives] == ["first model"]
    assert (report.champion, report.status_quo, report.cross_test, report.partial) == (None, None, None, None)
    assert report.during_backfill == ()


def test_a_later_model_is_measured_in_every_way_to_serve_it(checked_digits):
    files = Workspace(checked_digits)
    report = report_of(files, "t2")
    names = [each.name for each in report.alternatives]
    assert names[:3] == ["keep", "adapt", "merge"]
    assert names[3:] == ["partial 10 %", "partial 25 %", "partial 50 %", "partial 75 %", "backfill"]
    assert report.champion == digest_of(files.candidate_embedder("t1"))
    assert report.candidate == digest_of(files.candidate_embedder("t2"))
    rows = len(Gallery.load(files.gallery("t1")))
    assert report.alternatives[-1].rows_embedded == rows
    assert report.alternatives[1].rows_mapped == rows
    assert list(report.adapter_methods) == list(get_args(AdapterMethod))
    assert report.alternatives[1].measured.overall.at[1] in report.adapter_methods.values()
    assert report.best_own_gallery == {"t1": report.status_quo.own_gallery["t1"]}


def test_checking_again_gives_equal_bytes(project):
    before = project.check("t2").read_bytes()
    check.main("t2")
    assert project.check("t2").read_bytes() == before


def test_a_mixed_gallery_is_checked_row_by_row(checked_after_adapt):
    files = Workspace(checked_after_adapt)
    report = report_of(files, "t3")
    assert len(Gallery.load(files.gallery("t2")).groups()) == 2
    assert set(report.alternatives[0].against_status_quo) == {"overall", "old", "task:t1", "task:t2"}
    assert report.alternatives[1].rows_embedded == 0


@pytest.fixture(scope="module")
def untrained(split_digits, tmp_path_factory):
    """The ONNX file of the first task's network as it is before it learns anything."""
    root = shutil.copytree(split_digits, tmp_path_factory.mktemp("untrained") / "project")
    values = YAML(typ="safe").load(root / "params.yaml")
    values["training"]["first"]["epochs"] = 1
    values["training"]["first"]["optimizer"]["lr"] = 1e-12
    with (root / "params.yaml").open("w", encoding="utf-8") as file:
        YAML().dump(values, file)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        train.main("t1")
        export.main("t1")
    return Workspace(root).candidate_embedder("t1")


def test_a_network_of_random_weights_is_not_promoted_over_a_trained_one(project, untrained):
    shutil.copyfile(untrained, project.candidate_embedder("t2"))
    adapt.main("t2")
    check.main("t2")
    verdict = judge(report_of(project, "t2"), load_params(project.root / "params.yaml").gate)
    assert isinstance(verdict, Rejected)
    assert not any(each.passed for each in verdict.judged)


def test_a_network_of_random_weights_is_no_first_model(project, untrained):
    gate = load_params(project.root / "params.yaml").gate
    assert isinstance(judge(report_of(project, "t1"), gate), Promoted)
    shutil.copyfile(untrained, project.candidate_embedder("t1"))
    check.main("t1")
    verdict = judge(report_of(project, "t1"), gate)
    assert isinstance(verdict, Rejected)
    assert [each.name for each in verdict.judged[0].conditions if not each.passed] == ["min_map_at_r"]
