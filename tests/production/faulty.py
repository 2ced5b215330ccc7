"""Runs one operation of a live gallery again and again; each time another system call that changes a file
fails, the first, then every EVERY-th.

    python faulty.py FOLDER OPERATION EVERY    with faults.c preloaded and FAULTS_BELOW=FOLDER/place

After each failure the gallery must be readable, the operation must succeed when it is done again, and all that was
there must still be there. Prints how many calls failed in each way.
"""

import ctypes
import errno
import json
import shutil
import sys
from pathlib import Path

import numpy as np

from csd_core.live.gallery import LiveGallery
from csd_core.live.rows import LiveItems
from csd_core.live.rules import SearchRules
from csd_core.live.storage.owner import Project
from csd_core.retrieval.gallery import Gallery
from csd_core.system.errors import ArtifactError, CsdError

library = ctypes.CDLL(None)
WAYS = {"no room": (errno.ENOSPC, 0), "killed": (errno.EIO, 1)}


def gallery(count):
    t = np.full(count, "t")
    ids = np.array([f"item-{number}" for number in range(count)])
    return Gallery.embedded(ids=ids, labels=t, tasks=t, splits=t, vectors=unit(count), model="m")


def unit(count):
    vectors = np.random.default_rng(count).standard_normal((count, 4)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def put(live, *ids):
    live.upsert(
        "g",
        LiveItems(ids=np.array(ids), labels=np.full(len(ids), "a"), vectors=unit(len(ids)), embedded_by="m"),
    )


def build(live):
    live.build("g", gallery(6), origin="pipeline", images=None)
    live.tag("g", "first")


OPERATIONS = {
    "build": build,
    "upsert": lambda live: put(live, "new"),
    "delete": lambda live: live.delete("g", ["item-1", "nosuch"], why="test"),
    "erase": lambda live: live.erase(["item-2"]),
}
AFTER = {  # ids in the table after the operation, of item-0 to item-5 and what it wrote
    "build": {0, 1, 2, 3, 4, 5},
    "upsert": {0, 1, 2, 3, 4, 5, "new"},
    "delete": {0, 2, 3, 4, 5},
    "erase": {0, 1, 3, 4, 5},
}


def opened(folder):
    return LiveGallery.open(
        str(folder / "live"), lock=folder / "lock", root=folder, project=Project(folder / "releases")
    )


def ids(live):
    return set(live.rows("g", columns=["id"])["id"].to_pylist())


def main(root, operation, every):
    template = root / "template"
    template.mkdir()
    if operation != "build":
        build(opened(template))
    after = {f"item-{each}" if isinstance(each, int) else each for each in AFTER[operation]}
    failed = dict.fromkeys(WAYS, 0)
    for way, (error, forever) in WAYS.items():
        number = 1 - every
        while True:
            number += every
            place = root / f"place-{way}-{number}"  # LanceDB remembers the sizes of files by their paths
            shutil.copytree(template, place)
            live = opened(place)
            library.faults_at(number, error, forever)
            try:
                OPERATIONS[operation](live)
            except (CsdError, OSError) as reason:
                told = str(reason)
            else:
                told = ""
            seen = library.faults_seen()
            library.faults_at(0, 0, 0)
            assert "\n" not in told, told
            if seen < number:
                break
            failed[way] += 1
            again(opened(place), operation, after, where=f"{operation}, {way} at call {number}")
            shutil.rmtree(place)
    sys.stdout.write(json.dumps(failed) + "\n")


def again(live, operation, after, *, where):
    """What the next process finds and does."""
    try:
        before = ids(live) if operation != "build" else set()
        live.half_made()
        assert before <= {f"item-{number}" for number in range(6)} | {"new"}, where
        OPERATIONS[operation](live)
        assert ids(live) == after, where
        put(live, "item-5", "later")
        live.delete("g", ["later", "item-0"], why="test")
        live.erase(["item-3"])
        assert ids(live) == after - {"item-0", "item-3"}, where
        assert set(live.tombstones().erased(["item-3", "item-0"])) == {"item-3"}, where
        live.check("g", SearchRules.by_cosine("m", dimension=4))
        assert live.half_made() == (), where
        live.sweep()
        left = {path.name.split(".")[0] for path in Path(live.uri).glob("*.lance")}
        assert left == {"g", "catalogue", "tombstones"}, (where, left)
    except (ArtifactError, OSError) as error:
        raise AssertionError(where) from error


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
