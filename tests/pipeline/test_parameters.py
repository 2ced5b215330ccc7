"""A changed parameter re-runs the stage that reads it, and the stage's outcome is the new value's."""

from functools import reduce

import numpy as np
import pytest
from dvc.repo import Repo

from csd_core.params.file import load_params

pytestmark = pytest.mark.slow

CHANGES = (
    ("ingest@digits", "images.pixels", 16),
    ("ingest@digits", "images.resize", "pad"),
    ("ingest@digits", "data.max_rejected", 7),
    ("ingest@digits", "live.thumbnails", 64),
    ("ingest@digits", "sources.published.digits.limit_per_class", 9),
    ("split@t1", "split.seed", 5),
    ("split@t2", "tasks.t2.classes", ["5", "4", "6"]),
    ("train@t2", "training.later.memory.images", 3),
    ("promote@t1", "gate.resamples", 9000),
    ("promote@t1", "decisions.t1", "reject"),
)


@pytest.fixture(scope="module")
def project(finished_run, tmp_path_factory):
    return finished_run[0].copy(tmp_path_factory.mktemp("changed") / "project")


def stale(stage):
    with Repo() as repo:
        return repo.status(targets=[stage])


@pytest.mark.parametrize(("stage", "where", "value"), CHANGES, ids=[f"{each[0]}-{each[1]}" for each in CHANGES])
def test_a_changed_parameter_makes_its_stage_stale(project, monkeypatch, stage, where, value):
    """That DVC then runs it, and restores nothing of another value: tests/test_dvc_cache_key.py."""
    monkeypatch.chdir(project.root)
    path = project.root / "params.yaml"
    before = path.read_bytes()
    *blocks, key = where.split(".")
    assert not stale(stage)
    project.edit(lambda values: reduce(dict.__getitem__, blocks, values).update({key: value}))
    try:
        assert stale(stage)
    finally:
        path.write_bytes(before)


def test_images_have_as_many_pixels_as_asked_for_and_the_former_ones_come_back(project):
    pixels = project.files.source("digits") / "images.npy"
    former = load_params(project.root / "params.yaml").images.pixels
    for asked in (16, former):
        project.edit(lambda values, asked=asked: values["images"].update(pixels=asked))
        project.run("dvc", "repro", "-s", "ingest@digits")
        assert np.load(pixels, mmap_mode="r").shape[1:3] == (asked, asked)
