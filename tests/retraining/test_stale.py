"""Why stages are stale, from what DVC says and from the digests of the code."""

import json

import pytest
from ruamel.yaml import YAML

from csd_core.code_digest.digest import CodeTree
from csd_core.params.file import PROFILES, profile_text
from csd_core.project.stale import UNTOUCHED, reasons, without_code
from csd_core.stages.code import digests_of
from csd_core.workspace import Workspace

KEYS = {"split@t1": "split", "train@t1": "train.t1", "train@t2": "train.t2", "report": "report", "check@gone": "check"}


@pytest.fixture
def files(tmp_path):
    """A project whose dvc.lock and artifacts/code.json are of the code as it is."""
    (tmp_path / "params.yaml").write_text(profile_text(PROFILES, "tiny"), encoding="utf-8")
    files = Workspace(tmp_path)
    digests = digests_of(CodeTree.of(tmp_path), files.params())
    files.code.parent.mkdir()
    files.code.write_text(json.dumps(digests))
    lock(files, digests)
    return files


def lock(files, digests):
    """Write what DVC records of stages that ran under these digests."""
    flat = {key: digests[key.partition(".")[0]] for key in KEYS.values()}
    flat |= {key: value[key.partition(".")[2]] for key, value in flat.items() if isinstance(value, dict)}
    stages = {stage: {"params": {"artifacts/code.json": {key: flat[key]}}} for stage, key in KEYS.items()}
    YAML().dump({"schema": "2.0", "stages": {"code": {}, **stages}}, files.root / "dvc.lock")


def test_the_stage_that_always_runs_is_not_stale_while_it_would_write_the_same(files):
    changes = {"code": UNTOUCHED, "train@t1": [{"changed deps": {}}]}
    assert set(without_code(changes, files)) == {"train@t1"}
    assert reasons(without_code({"code": UNTOUCHED}, files), files) == {}


@pytest.mark.parametrize("text", ["{}", "[", None])
def test_it_is_stale_where_digests_are_others_or_missing(files, text):
    files.code.unlink()
    if text is not None:
        files.code.write_text(text)
    assert set(without_code({"code": UNTOUCHED}, files)) == {"code"}


def test_it_is_stale_where_dvc_sees_another_file_than_it_recorded(files):
    changes = {"code": [{"changed outs": {"artifacts/code.json": "not in cache"}}, "always changed"]}
    assert without_code(changes, files) == changes


def test_a_stage_whose_recorded_digest_is_another_is_stale_by_its_code_before_dvc_can_see_it(files):
    digests = json.loads(files.code.read_text())
    digests["train"]["t2"] = digests["check"] = "0" * 64
    lock(files, digests)
    assert reasons({}, files) == {"train@t2": ("code",)}  # the task `gone` is no more in params.yaml


def test_reasons_stand_in_the_order_of_the_pipeline_and_in_words_of_the_files(files):
    changes = {
        "report": [{"changed outs": {"metrics.json": "deleted"}}],
        "train@t2": [
            {"changed deps": {"params.yaml": {"training.later": "modified"}, "data/seen/t2.json": "modified"}},
            "changed checksum",
        ],
        "split@t2": [{"changed deps": {"data/sources/digits": "deleted"}}],
        "split@t1": [{"changed deps": {"artifacts/code.json": {"split": "modified"}}}],
        "code": UNTOUCHED,
    }
    assert list(reasons(changes, files).items()) == [
        ("split@t1", ("code",)),
        ("split@t2", ("has not run",)),
        ("train@t2", ("its definition in dvc.yaml", "parameters: training.later", "data: data/seen/t2.json")),
        ("report", ("result metrics.json (deleted)",)),
    ]
