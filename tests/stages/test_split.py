import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from stage_params import change_params

from csd_core.data.shards import ITEMS, load_shard
from csd_core.data.tables import read_table
from csd_core.params.rules import GENESIS
from csd_core.records.stages import SeenShards
from csd_core.stages import ingest, split
from csd_core.system.errors import DataError, ParamsError

DIGITS = {"digits": {"kind": "digits", "limit_per_class": 20}}
T1, T2, T3 = ("digits", ["0", "1", "2", "3"]), ("digits", ["4", "5", "6"]), ("digits", ["9", "8", "7"])


def batch(name):
    return {name: {"path": f"raw/{name}", "layout": "classes"}}


def put(batch_name, label, numbers):
    """Images of noise; equal numbers are equal images."""
    folder = Path("raw") / batch_name / label
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        noise = np.random.default_rng(number).integers(0, 256, (8, 8), np.uint8)
        Image.fromarray(noise).save(folder / f"{number}.png")


def run(files, *, sources, tasks):
    SeenShards(shards=()).save(files.seen(GENESIS))
    for name in sources:
        ingest.main(name)
    for name in tasks:
        split.main(name)


def fingerprint(files, *tasks):
    """sha256 of every file of some tasks' shards and lists."""
    found = [path for task in tasks for path in [*sorted(files.shard(task).iterdir()), files.seen(task)]]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def test_each_task_gets_a_shard_of_its_own_and_the_list_of_all_before(configure, capsys):
    files = configure(published=DIGITS, tasks={"t1": T1, "t2": T2, "t3": T3})
    run(files, sources=["digits"], tasks=["t1", "t2", "t3"])
    shards = [load_shard(files.shard(name)) for name in ("t1", "t2", "t3")]
    assert [shard.record.classes for shard in shards] == [tuple(each[1]) for each in (T1, T2, T3)]
    assert [len(shard.ids) for shard in shards] == [80, 60, 60]
    ids = np.concatenate([shard.ids for shard in shards])
    assert len(np.unique(ids)) == len(ids)
    for name, count in (("t1", 1), ("t2", 2), ("t3", 3)):
        assert SeenShards.load(files.seen(name)).shards == tuple(shard.record for shard in shards[:count])
    assert "t1: 4 classes: 36 train, 12 select, 16 gate, 16 test\n" in capsys.readouterr().out
    assert shards[0].record.counts == {"train": 36, "select": 12, "gate": 16, "test": 16}


def test_a_new_task_changes_no_existing_shard(configure):
    files = configure(published=DIGITS, tasks={"t1": T1})
    run(files, sources=["digits"], tasks=["t1"])
    before = fingerprint(files, "t1")
    files = configure(published=DIGITS, tasks={"t1": T1, "t2": T2})
    run(files, sources=["digits"], tasks=["t1", "t2"])
    assert fingerprint(files, "t1") == before


def test_a_batch_of_new_and_one_of_known_classes_change_no_existing_shard(configure):
    put("first", "cat", range(20))
    put("first", "dog", range(20, 40))
    files = configure(folders=batch("first"), tasks={"t1": ("first", None)})
    run(files, sources=["first"], tasks=["t1"])
    before = fingerprint(files, "t1")

    put("new", "ant", range(40, 50))
    put("known", "cat", range(15, 30))
    put("known", "eel", range(50, 60))
    files = configure(
        folders={**batch("first"), **batch("new"), **batch("known")},
        tasks={"t1": ("first", None), "t2": ("new", None), "t3": ("known", None)},
    )
    run(files, sources=["first", "new", "known"], tasks=["t1", "t2", "t3"])
    assert fingerprint(files, "t1") == before
    assert SeenShards.load(files.seen("t3")).classes == ("cat", "dog", "ant", "eel")
    known = load_shard(files.shard("t3"))
    # 15..19 are cats of the first batch, 20..29 its dogs: they keep their first split and class
    assert known.record.skipped == 15
    assert set(known.labels) == {"eel"}
    assert not set(known.ids) & set(load_shard(files.shard("t1")).ids)


def test_more_images_of_a_known_class_come_as_a_shard_of_their_own(configure, capsys):
    put("first", "cat", range(20))
    put("more", "cat", range(18, 40))
    files = configure(folders={**batch("first"), **batch("more")}, tasks={"t1": ("first", None), "t2": ("more", None)})
    run(files, sources=["first", "more"], tasks=["t1", "t2"])
    shard = load_shard(files.shard("t2"))
    assert (shard.record.classes, shard.record.skipped, len(shard.ids)) == (("cat",), 2, 20)
    assert capsys.readouterr().out.splitlines()[-1] == (
        "t2: 1 classes: 9 train, 3 select, 4 gate, 4 test; 2 images are in earlier tasks already"
    )


def test_a_class_that_earlier_tasks_have_whole_is_said(configure, capsys):
    put("first", "cat", range(20))
    put("more", "cat", range(5))
    put("more", "dog", range(20, 30))
    files = configure(folders={**batch("first"), **batch("more")}, tasks={"t1": ("first", None), "t2": ("more", None)})
    run(files, sources=["first", "more"], tasks=["t1", "t2"])
    assert 't2: earlier tasks have every image of class "cat"; it is left out' in capsys.readouterr().out


def test_repeating_a_split_gives_the_same_bytes(configure):
    files = configure(published=DIGITS, tasks={"t1": T1, "t2": T2})
    run(files, sources=["digits"], tasks=["t1", "t2"])
    before = fingerprint(files, "t1", "t2")
    run(files, sources=["digits"], tasks=["t1", "t2"])
    assert fingerprint(files, "t1", "t2") == before


def test_an_unknown_task_and_an_unknown_class_are_refused(configure):
    files = configure(published=DIGITS, tasks={"t1": ("digits", ["1", "17"])})
    with pytest.raises(ParamsError, match="task t9: there is no such task; known: t1"):
        split.main("t9")
    with pytest.raises(DataError, match='tasks.t1.classes: source digits has no class "17"; it has 10, such as'):
        run(files, sources=["digits"], tasks=["t1"])
    assert not files.shard("t1").exists()
    assert not files.seen("t1").exists()


def test_a_later_batch_follows_the_groups_of_an_earlier_one(configure, capsys):
    """Its images of a known person get the role that this person has, and no earlier shard changes."""
    files = configure(
        folders=batch("one") | batch("two"), tasks={"t1": ("one", None), "t2": ("two", None)}, max_rejected=0
    )
    change_params(Path(), lambda values: values["split"].update(group=r"/p(\d+)-"))
    for name, shots in (("one", range(3)), ("two", range(3, 5))):
        folder = Path("raw") / name / "a"
        folder.mkdir(parents=True)
        for person in range(10):
            for shot in shots:
                noise = np.random.default_rng([person, shot]).integers(0, 256, (8, 8), np.uint8)
                Image.fromarray(noise).save(folder / f"p{person}-{shot}.png")
    run(files, sources=["one", "two"], tasks=["t1"])
    before = fingerprint(files, "t1")
    split.main("t2")
    assert fingerprint(files, "t1") == before
    assert "t1: split.group finds 10 groups in the paths; 0 paths have none\n" in capsys.readouterr().out
    role_of = {}
    for task in ("t1", "t2"):
        items = read_table(files.shard(task) / ITEMS, ("path", "split"))
        for path, role in zip(items["path"].tolist(), items["split"].tolist(), strict=True):
            role_of.setdefault(path.partition("-")[0], set()).add(role)
    assert len(role_of) == 10
    assert all(len(roles) == 1 for roles in role_of.values())
    assert set.union(*role_of.values()) == {"train", "select", "gate", "test"}
