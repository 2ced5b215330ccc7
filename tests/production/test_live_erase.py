"""An erased item is nowhere, and never comes back."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from csd_core.live.rows import LiveItems, StoredImages
from csd_core.system.errors import ParamsError

SCRIPT = Path(__file__).with_name("faulty_erase.py")


def images(ids):
    return StoredImages(
        [f"pixels of {identity}.".encode() for identity in ids],
        [None] * len(ids),
        [f"thumbnail of {identity}.".encode() for identity in ids],
        paths=[f"file of {identity}." for identity in ids],
    )


def row_of(gallery, name, new_name=None):
    at = [gallery.ids.tolist().index(name)]
    return LiveItems(
        ids=np.array([new_name or name]),
        labels=gallery.labels[at],
        vectors=gallery.vectors[at],
        embedded_by="model-1",
        images=images([new_name or name]),
    )


@pytest.fixture
def built(live, gallery_of_items):
    """Two tables with tags at several versions, written and deleted since."""
    gallery = gallery_of_items(400, prefix="person-x")
    for table in ("old", "new"):
        live.build(table, gallery, origin="pipeline", images=images)
        live.tag(table, "release-1")
        live.upsert(table, row_of(gallery, "person-x399", "added"))
        live.tag(table, "release-2")
    live.delete("old", ["person-x399"], why="asked")
    return gallery


def test_no_file_has_the_id_the_vector_or_the_image_of_an_erased_item(live, built, files_with, tmp_path):
    vector = built.vectors[399].tobytes()
    words = (b"pixels of person-x399.", b"thumbnail of person-x399.", b"file of person-x399.")
    needles = (b"person-x399", *words, vector)
    assert all(files_with(tmp_path / "live", needle) for needle in needles)
    report = live.erase(["person-x399", "added"])
    assert not any(files_with(tmp_path, needle) for needle in needles)
    assert report.rows == 3  # one of them in `new` only
    assert report.tables == ("new", "old")


def test_everything_else_is_as_it_was_at_every_tag(live, built):
    def rest(table, version):
        rows = live.rows(table, version=version).to_pylist()
        return sorted((row for row in rows if row["id"] != "person-x399"), key=lambda row: row["id"])

    places = [(table, version) for table in ("old", "new") for version in (None, "release-1", "release-2")]
    before = [rest(*place) for place in places]
    report = live.erase(["person-x399"])
    assert [rest(*place) for place in places] == before
    assert [live.count(*place[:1], version=place[1]) for place in places] == [400, 399, 400, 400, 399, 400]
    assert {(each.table, each.tag): (each.rows, each.digest) for each in report.tagged} == {
        (table, tag): (live.count(table, version=tag), live.digest(table, version=tag, whole=True))
        for table in ("old", "new")
        for tag in ("release-1", "release-2")
    }


def test_an_erased_item_cannot_be_written_or_built_again(live, built):
    live.erase(["person-x399"])
    before = live.version("new")
    with pytest.raises(ParamsError, match="item person-x399 was erased, and an erased item never comes back"):
        live.upsert("new", row_of(built, "person-x399"))
    assert live.version("new") == before
    assert live.build("third", built, origin="live", images=images) == 399
    live.delete("new", ["person-x399"], why="again")
    assert live.tombstones().erased(["person-x399", "person-x18"]) == ("person-x399",)


def test_an_item_that_was_never_there_can_be_erased_beforehand(live, built):
    assert live.erase(["person-x9999"]).rows == 0
    with pytest.raises(ParamsError, match="was erased"):
        live.upsert("new", row_of(built, "person-x18", "person-x9999"))


@pytest.fixture(scope="module")
def faulty(preloaded, tmp_path_factory):
    """(arguments) -> a finished run of faulty_erase.py, in a folder with a project whose releases have an item."""
    folder = tmp_path_factory.mktemp("erase")
    environment = os.environ | {"LD_PRELOAD": str(preloaded("faults.c")), "FAULTS_BELOW": str(folder / "place")}

    def run(*arguments):
        command = [sys.executable, str(SCRIPT), str(folder), *map(str, arguments)]
        return subprocess.run(command, env=environment, check=False, capture_output=True, text=True)

    made = run("make")
    assert made.returncode == 0, made.stderr[-3000:]
    return folder, run


@pytest.mark.slow
def test_an_erasure_that_fails_at_any_step_is_one_line_and_a_second_one_completes_it(faulty):
    _, run = faulty
    done = run("fail", 23)
    assert done.returncode == 0, done.stderr[-3000:]
    assert min(json.loads(done.stdout.splitlines()[-1]).values()) >= 5


@pytest.mark.slow
@pytest.mark.parametrize("number", [20, 90, 150, 200, 210])
def test_an_erasure_that_is_killed_is_completed_by_a_second_one(faulty, number):
    folder, run = faulty
    place = folder / "place-killed"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(folder / "template", place)
    assert run("kill", number).returncode == -signal.SIGKILL
    done = run("again")
    assert done.returncode == 0, done.stderr[-3000:]
