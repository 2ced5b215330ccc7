"""Whatever a stage reads of params.yaml is part of the key under which DVC remembers its outcome."""

import copy
import json
import shutil
from pathlib import Path

import pytest
from dvc.dependency import ParamsDependency
from dvc.repo import Repo
from dvc.stage.cache import _get_cache_hash
from dvc.stage.serialize import to_single_stage_lockfile
from dvc_data.hashfile.hash_info import HashInfo

from csd_core.code_digest.digest import CodeTree
from csd_core.params.file import load_params, profile_text
from csd_core.params.section import UNSEEN
from csd_core.stages.code import digests_of

ROOT = Path(__file__).parents[1]
SHAPES = ("digits", "imagefolder")
MORE = ("fashion-mnist-2", "glyphs-2", "cub200-2", "cifar100-paper-2")
"""Profiles of every kind of source and every shape of a block."""


@pytest.fixture
def stages_of(tmp_path):
    """Stages of dvc.yaml under a profile, with what they read of params.yaml and of the code's digests."""

    def load(profile):
        shutil.copy2(ROOT / "dvc.yaml", tmp_path)
        (tmp_path / "params.yaml").write_text(
            profile_text(ROOT / "csd_core/project/profiles", profile), encoding="utf-8"
        )
        digests = digests_of(CodeTree(ROOT), load_params(tmp_path / "params.yaml"))
        (tmp_path / "artifacts").mkdir()
        (tmp_path / "artifacts/code.json").write_text(json.dumps(digests), encoding="utf-8")
        with Repo.init(str(tmp_path), no_scm=True) as repo:
            for stage in repo.index.stages:
                for dep in stage.deps:
                    if isinstance(dep, ParamsDependency):
                        dep.hash_info = dep.get_hash()
            return list(repo.index.stages)

    return load


def key_of(stage):
    return _get_cache_hash(to_single_stage_lockfile(stage), key=True)


def changes(value):
    """The same value again and again, each time with another of its leaves changed; an empty block has none."""
    if isinstance(value, dict | list) and value:
        for place, item in value.items() if isinstance(value, dict) else enumerate(value):
            for where, other in changes(item):
                changed = copy.copy(value)
                changed[place] = other
                yield (place, *where), changed
    else:
        yield (), f"not {value!r}"


@pytest.mark.parametrize("profile", [*SHAPES, *(pytest.param(each, marks=pytest.mark.slow) for each in MORE)])
def test_a_change_of_any_parameter_that_a_stage_reads_changes_its_key(profile, stages_of):
    overlooked, looked_at = [], 0
    for stage in stages_of(profile):
        before = key_of(stage)
        for dep in stage.deps:
            if not isinstance(dep, ParamsDependency):
                continue
            read = dep.hash_info
            for where, changed in changes(read.value):
                dep.hash_info = HashInfo(dep.hash_name, changed)
                looked_at += 1
                if key_of(stage) == before:
                    overlooked.append((stage.addressing, *where))
            dep.hash_info = read
    assert overlooked == []
    assert looked_at > 100


def test_the_names_that_params_refuses_are_those_that_dvc_overlooks():
    names = ["size", "nfiles", "isdir", "isexec", "version_id", "etag", "md5", "hash", "path", "cloud", "files", "mode"]
    block = {"cmd": "x", "params": {"params.yaml": {"block": dict.fromkeys(names, 1)}}, "outs": [{"path": "out"}]}

    def key(**changed):
        other = copy.deepcopy(block)
        other["params"]["params.yaml"]["block"].update(changed)
        return _get_cache_hash(other, key=True)

    assert {name for name in names if key(**{name: 2}) == key()} == UNSEEN
