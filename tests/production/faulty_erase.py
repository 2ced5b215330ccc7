"""Erases an item from a project while system calls that change its files fail, or while the process is killed.

    python faulty_erase.py FOLDER make             a project with two releases that have the item, in FOLDER/template
    python faulty_erase.py FOLDER fail EVERY       every EVERY-th call fails; prints how many there were and failed
    python faulty_erase.py FOLDER kill NUMBER      ends itself at a call of FOLDER/place-killed
    python faulty_erase.py FOLDER again            erases once more there, and checks that all is well

The last three with faults.c preloaded and FAULTS_BELOW=FOLDER/place.
"""

import contextlib
import ctypes
import errno
import io
import json
import os
import shutil
import sys
from pathlib import Path

from projects import Project, content_ids, pixels_of

from csd_core.cli import main as csd
from csd_core.releases.publish import publish

WAYS = {"no room": (errno.ENOSPC, 0), "ended": (errno.EIO, 1)}
KILL = -1
ITEM = content_ids(pixels_of(40, 1, seed=1))[0]
library = ctypes.CDLL(None)


def make(folder):
    project = Project(folder / "template", tasks=("t1", "t2"), images=6).promote("t1", "none").promote("t2", "adapt")
    publish(project.production, task="t1")
    project.put(pixels_of(40, 1, seed=1), "live")
    project.put(pixels_of(41, 1, seed=1), "live")
    publish(project.production)
    row = project.rows()[ITEM]
    (folder / "needles.json").write_text(
        json.dumps([ITEM.encode().hex(), row["image"].hex(), memoryview(vector(project)).hex()])
    )


def vector(project):
    live, table = project.production.live, project.active().table
    return live.rows(table, ids=[ITEM], columns=["vector"])["vector"].combine_chunks().flatten().to_numpy().tobytes()


def erase(place):
    """Exit code and standard error of the command."""
    told = io.StringIO()
    os.chdir(place)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(told):
        try:
            csd(["items", "erase", ITEM, "--why", "asked"])
        except SystemExit as ended:
            return ended.code, told.getvalue()
    return 0, told.getvalue()


def again(folder, place, where):
    """The next attempt completes the erasure, and all other rows and releases are as they were."""
    project, template = Project(place, tasks=("t1", "t2")), Project(folder / "template", tasks=("t1", "t2"))
    assert template.rows().keys() - project.rows().keys() <= {ITEM}, where
    assert project.search(pixels_of(41, 1, seed=1), k=1).labels.tolist() == [["live"]], where
    assert erase(place) == (0, ""), where
    assert project.findings() == (), where
    assert project.rows().keys() == template.rows().keys() - {ITEM}, where
    needles = [bytes.fromhex(each) for each in json.loads((folder / "needles.json").read_text())]
    kept = [path.relative_to(place) for path in place.rglob("*") if path.is_file() and has(path, needles)]
    assert kept == [], (where, kept)
    production = project.production
    for release in production.releases.all():
        then = template.production.live.rows(release.table, version=release.tag, columns=["id"])["id"].to_pylist()
        now = production.live.rows(release.table, version=release.tag, columns=["id"])["id"].to_pylist()
        assert set(now) == set(then) - {ITEM}, where
    assert production.live.tombstones().erased([ITEM]) == (ITEM,), where


def has(path, needles):
    content = path.read_bytes()
    return any(needle in content for needle in needles)


def fail(folder, every):
    failed, calls = dict.fromkeys(WAYS, 0), 0
    for way, (error, forever) in WAYS.items():
        number = 1
        while True:
            place = folder / f"place-{way.replace(' ', '-')}-{number}"
            shutil.copytree(folder / "template", place)
            library.faults_at(number, error, forever)
            code, told = erase(place)
            seen = library.faults_seen()
            library.faults_at(0, 0, 0)
            where = f"{way} at call {number}: exit {code}, {told}"
            if seen < number:
                assert (code, told) == (0, ""), where
                calls = seen
                break
            assert code == 0 or told.count("\n") == 1, where
            assert "Traceback" not in told, where
            failed[way] += code != 0
            again(folder, place, where)
            shutil.rmtree(place)
            number += every
    sys.stdout.write(json.dumps({"calls": calls, **failed}) + "\n")


if __name__ == "__main__":
    root, what = Path(sys.argv[1]), sys.argv[2]
    if what == "make":
        make(root)
    elif what == "fail":
        fail(root, int(sys.argv[3]))
    elif what == "kill":
        library.faults_at(int(sys.argv[3]), KILL, 0)
        erase(root / "place-killed")
    else:
        again(root, root / "place-killed", "killed")
