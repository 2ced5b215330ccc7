"""Several processes at one live gallery, and processes that are killed.

They are started afresh: LanceDB does not survive a fork.
"""

import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path

import pytest
from patience import PATIENCE

from csd_core.live.rules import SearchRules

PRELUDE = """
import sys, os, signal
from pathlib import Path
import numpy as np
from csd_core.live.gallery import LiveGallery
from csd_core.live.rows import LiveItems, StoredImages
from csd_core.live.storage.tables import Tables
from csd_core.retrieval.gallery import Gallery

root = Path(sys.argv[1])
live = LiveGallery.open(str(root / "live"), lock=root / "write.lock", root=root)

def unit(count, seed):
    vectors = np.random.default_rng(seed).standard_normal((count, 8)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

def write(ids, label, seed=0):
    live.upsert("g", LiveItems(ids=np.array(ids), labels=np.full(len(ids), label), vectors=unit(len(ids), seed),
                               embedded_by="model-1"))

def kill_self(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def start(root: Path, script: str, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(script), str(root), *arguments],
        stdout=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen) -> str:
    out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    return out


def killed(process: subprocess.Popen) -> None:
    """Wait for a process that kills itself."""
    process.communicate(timeout=PATIENCE)
    assert process.returncode == -signal.SIGKILL


@pytest.fixture
def built(live, gallery_of_items):
    gallery = gallery_of_items(50)
    live.build("g", gallery, origin="pipeline", images=None)
    live.tag("g", "first")
    return gallery


def test_two_writers_at_once_lose_nothing_and_write_nothing_twice(live, built, tmp_path):
    script = """
        me = sys.argv[2]
        for number in range(12):
            write([f"{me}-{number}", f"both-{number}", "item-1"], f"by {me}", seed=number)
    """
    writers = [start(tmp_path, script, name) for name in ("one", "two")]
    for writer in writers:
        finish(writer)
    ids = live.rows("g", columns=["id"])["id"].to_pylist()
    expected = {f"{name}-{number}" for name in ("one", "two", "both") for number in range(12)}
    assert sorted(ids) == sorted({f"item-{i}" for i in range(50)} | expected)
    live.check("g", SearchRules.by_cosine("model-1", dimension=8))


def test_a_writer_killed_at_any_moment_leaves_whole_writes_and_a_table_that_can_be_written(live, built, tmp_path):
    script = """
        print("ready", flush=True)
        for generation in range(10_000):
            write([f"row-{i}" for i in range(400)], f"generation {generation}", seed=generation)
            print(generation, flush=True)
    """
    for wait in (0.0, 0.013, 0.031):
        writer = start(tmp_path, script)
        for _ in range(4):
            writer.stdout.readline()
        time.sleep(wait)  # into another moment of the next write
        writer.kill()
        writer.communicate()
        rows = live.rows("g", columns=["id", "label"]).to_pylist()
        generations = Counter(row["label"] for row in rows if row["id"].startswith("row-"))
        assert list(generations.values()) == [400]
        live.check("g", SearchRules.by_cosine("model-1", dimension=8))
        live.delete("g", [f"row-{i}" for i in range(400)], why="test")


@pytest.mark.parametrize("moment", ["among its rows", "before it appears"])
def test_a_build_that_is_killed_never_appears_and_its_files_are_swept(live, built, tmp_path, moment):
    script = """
        def images(ids):
            if moment == "among its rows" and "item-3000" in ids.tolist():
                kill_self()
            return StoredImages([b"left behind"] * len(ids), [None] * len(ids))
        moment = sys.argv[2]
        if moment == "before it appears":
            Tables._commit = kill_self
        ids = np.array([f"item-{i}" for i in range(5000)])
        t = np.full(5000, "t")
        gallery = Gallery.embedded(ids=ids, labels=t, tasks=t, splits=t, vectors=unit(5000, 1), model="model-1")
        live.build("g", gallery, origin="pipeline", images=images)
    """
    before = live.digest("g")
    killed(start(tmp_path, script, moment))
    assert (live.tables(), live.digest("g")) == (("g",), before)
    if moment == "before it appears":  # among its rows LanceDB may not have written any yet
        assert len(list((tmp_path / "live").glob("g.*.lance"))) == 2
    live.sweep()
    assert len(list((tmp_path / "live").glob("g.*.lance"))) == 1
    assert live.digest("g") == before


@pytest.mark.parametrize("step", ["_commit", "sweep"])
def test_a_rewrite_that_is_killed_shows_the_former_or_the_new_rows_and_can_be_done_again(
    live, built, tmp_path, files_with, step
):
    script = """
        step = sys.argv[2]
        done = getattr(Tables, step)
        calls = []
        def wrapped(self, *arguments, **named):
            calls.append(1)
            if len(calls) == (1 if step == "_commit" else 2):  # the first sweep comes before the rewrite
                kill_self()
            return done(self, *arguments, **named)
        setattr(Tables, step, wrapped)
        live.erase(["item-7"])
    """
    killed(start(tmp_path, script, step))
    there = live.has("g", ["item-7"])["item-7"]
    assert there is (step == "_commit")
    assert live.count("g") == live.count("g", version="first") == 49 + there
    assert live.erase(["item-7"]).rows == int(there)
    assert not files_with(tmp_path / "live", b"item-7")
    assert live.count("g") == live.count("g", version="first") == 49


def test_a_writer_waits_for_another_process_and_one_that_cannot_wait_names_it(live, built, tmp_path):
    script = """
        with live.writing():
            print("holding", flush=True)
            sys.stdin.readline()
    """
    holder = subprocess.Popen(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(script), str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout.readline() == "holding\n"
    with pytest.raises(Exception, match=rf"process {holder.pid} \(.*\) and was so for 0.2 s"), live.writing(wait=0.2):
        pass
    holder.kill()
    holder.communicate()
    with live.writing(wait=10):  # its lock went with it
        assert live.count("g") == 50


def test_readers_in_another_process_see_whole_tables_while_one_is_replaced_again_and_again(live, built, tmp_path):
    script = """
        print("ready", flush=True)
        t = np.full(600, "t")
        for seed in range(8):
            ids = np.array([f"{seed}-{i}" for i in range(600)])
            gallery = Gallery.embedded(ids=ids, labels=t, tasks=t, splits=t, vectors=unit(600, seed), model="m")
            live.build("next", gallery, origin="pipeline", images=None)
    """
    builder = start(tmp_path, script)
    builder.stdout.readline()
    seen = set()
    while builder.poll() is None:
        if "next" in live.tables():
            rows = live.rows("next", columns=["id"])["id"].to_pylist()
            assert len(rows) == 600
            seen.add(rows[0].split("-")[0])
            assert {identity.split("-")[0] for identity in rows} == {rows[0].split("-")[0]}
        assert live.count("g") == 50
    finish(builder)
    assert len(seen) > 1
