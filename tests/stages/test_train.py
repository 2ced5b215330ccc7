"""The training stage as DVC runs it: a process of its own, which may be killed at any moment."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from patience import PATIENCE
from ruamel.yaml import YAML

from csd_core.learning.checkpoint import FILE, Checkpoint
from csd_core.learning.networks.weights import RECORD, WEIGHTS, load_model
from csd_core.records.stages import ModelRecord, Pending, ShardRecord
from csd_core.stages import split, train
from csd_core.system.errors import ParamsError
from csd_core.workspace import Workspace

PARTIAL = f".{FILE}.partial"


def start(root, task="t2"):
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "csd_core.stages.train", task],
        cwd=root,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(root, task="t2"):
    process = start(root, task)
    printed, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    assert errors == ""
    return printed


def kill(process):
    """Kill outright; whether it was still alive."""
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode in (0, -signal.SIGKILL)
    return process.returncode != 0


def kill_after(process, pattern, *, delay):
    """Kill outright, `delay` seconds after a line that matches `pattern`."""
    for line in process.stdout:
        if re.search(pattern, line):
            break
    time.sleep(delay)
    assert kill(process), "the stage ended before it could be killed"


def kill_while_it_writes(process, work):
    """Kill outright as soon as a half-written checkpoint is seen; whether it was left behind."""
    while process.poll() is None:
        partials = [folder / PARTIAL for folder in work.glob("train-*")]
        if any(map(os.path.exists, partials)):
            return kill(process) and any(map(os.path.exists, partials))
    process.communicate()
    return False


def outputs(root, task="t2"):
    """Every byte of the stage's outs, by path."""
    files = Workspace(root)
    folders = (files.candidate_model(task), files.curves(task))
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def copied(root, target):
    shutil.copytree(root, target)
    return target


def edit(root, change):
    path = root / "params.yaml"
    values = YAML(typ="safe").load(path)
    change(values)
    with path.open("w", encoding="utf-8") as file:
        YAML().dump(values, file)


@pytest.fixture(scope="session")
def uninterrupted(learned_digits, once):
    """The second task trained in one go: its folder and what it printed."""

    def make(folder):
        (folder.with_suffix(".printed")).write_text(finish(copied(learned_digits, folder)), encoding="utf-8")

    root = once("uninterrupted", make)
    return root, root.with_suffix(".printed").read_text(encoding="utf-8")


def test_a_stage_leaves_its_outs_and_no_scratch(uninterrupted):
    root, printed = uninterrupted
    curves = ("ce", "csd", "fd", "kd", "lr", "total", "triplet")
    assert sorted(outputs(root)) == [
        "artifacts/t2/candidate/curves/select/recall_at_1.tsv",
        *(f"artifacts/t2/candidate/curves/train/{name}.tsv" for name in curves),
        f"artifacts/t2/candidate/model/{RECORD}",
        f"artifacts/t2/candidate/model/{WEIGHTS}",
    ]
    assert not list((root / ".csd" / "unfinished").glob("*"))
    assert re.search(r"start-up: \d+\.\d s from process start to first batch", printed)
    assert printed.count("epoch ") == 12 + 1


def test_the_later_stage_had_the_champion_as_its_teacher(uninterrupted):
    root, _ = uninterrupted
    record = ModelRecord.load(Workspace(root).candidate_model("t2") / RECORD)
    assert record.classes == ("0", "1", "2", "3", "4")
    assert record.trained_on == ("t2",)
    assert record.select_recall > 0.8


@pytest.mark.slow
def test_a_stage_killed_at_any_moment_ends_with_the_same_bytes(uninterrupted, learned_digits, tmp_path):
    root = copied(learned_digits, tmp_path / "killed")
    draw = random.Random(time.time_ns())  # noqa: S311 - any moment will do
    kill_after(start(root), "start-up", delay=draw.uniform(0, 0.05))
    kill_after(start(root), r"epoch 2/12", delay=draw.uniform(0, 0.1))
    kill_after(start(root), r"epoch [3456]/12", delay=draw.uniform(0, 0.1))
    printed = finish(root)
    assert "resuming t2 after epoch" in printed
    assert outputs(root) == outputs(uninterrupted[0])


@pytest.mark.slow
def test_a_stage_killed_while_it_writes_a_checkpoint_ends_with_the_same_bytes(uninterrupted, learned_digits, tmp_path):
    for number in range(5):  # the moment is short, and a busy machine looks away
        root = copied(learned_digits, tmp_path / f"killed-{number}")
        work = root / ".csd" / "unfinished"
        if kill_while_it_writes(start(root), work):
            break
    else:
        pytest.fail("no kill left a half-written file behind")
    (folder,) = work.glob("train-t2-*")
    before = Checkpoint.load(folder)
    done = len(before.progress.history) if before else 0
    printed = finish(root)
    assert (f"resuming t2 after epoch {done} of 12" in printed) == (done > 0)
    assert outputs(root) == outputs(uninterrupted[0])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_a_stage_killed_at_random_moments_over_and_over_ends_with_the_same_bytes(
    uninterrupted, learned_digits, tmp_path, seed
):
    root = copied(learned_digits, tmp_path / "killed")
    draw = random.Random(seed)  # noqa: S311 - any moment will do
    for _ in range(4):
        process = start(root)
        for line in process.stdout:
            if "start-up" in line:
                break
        try:
            process.wait(timeout=draw.uniform(0, 1))
        except subprocess.TimeoutExpired:
            kill(process)  # it may just have ended
        else:
            process.communicate()
            break
    finish(root)
    assert outputs(root) == outputs(uninterrupted[0])


def test_a_stage_killed_between_its_outs_writes_both(uninterrupted, learned_digits, tmp_path, monkeypatch):
    root = copied(learned_digits, tmp_path / "killed")
    monkeypatch.chdir(root)
    with monkeypatch.context() as patch:
        patch.setattr(train, "save_curves", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train.main("t2")
    shutil.rmtree(Workspace(root).candidate_model("t2"))  # as DVC removes outs before it runs a stage
    train.main("t2")
    assert outputs(root) == outputs(uninterrupted[0])


@pytest.mark.parametrize(
    "change",
    [
        lambda root: edit(root, lambda values: values["training"].update(seed=2)),
        lambda root: edit(root, lambda values: values["training"]["later"]["methods"]["csd"]["csd"].update(weight=2.0)),
        lambda root: edit(root, lambda values: values["training"]["later"]["memory"].update(images=1)),
        lambda root: shutil.copy2(
            root / "data" / "shards" / "t2" / "images.npy", root / "artifacts" / "t1" / "champion" / "model" / WEIGHTS
        ),
        lambda root: (root / "data" / "seen" / "t2.json").write_text(
            re.sub(r'"digest": "\w', '"digest": "-', (root / "data" / "seen" / "t2.json").read_text())
        ),
    ],
    ids=["seed", "weight", "memory", "champion", "images"],
)
def test_a_checkpoint_of_other_inputs_is_not_resumed(learned_digits, tmp_path, monkeypatch, change):
    root = copied(learned_digits, tmp_path / "changed")
    monkeypatch.chdir(root)
    champion = load_model(Workspace(root).champion_model("t1"))
    monkeypatch.setattr(train, "load_model", lambda _: champion)
    folders = []

    def stopped(*_arguments, work, **_options):
        folders.append(work)
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "train", stopped)
    for prepare in (lambda _: None, lambda _: None, change):
        prepare(root)
        with pytest.raises(KeyboardInterrupt):
            train.main("t2")
    assert folders[0] == folders[1] != folders[2]


@pytest.fixture
def remembering(learned_digits, tmp_path, monkeypatch):
    """A function that makes a project in which the second task has a memory, and goes there."""
    names = iter(range(10))

    def make(**memory):
        root = copied(learned_digits, tmp_path / f"memory-{next(names)}")
        edit(root, lambda values: values["training"]["later"].update(epochs=4, memory=memory))
        monkeypatch.chdir(root)
        return root

    return make


def trained_images(monkeypatch, task="t2"):
    """What the stage hands to the training engine."""
    handed = []

    def stopped(data, *_arguments, **_options):
        handed.append(data.train)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(train, "train", stopped)
        with pytest.raises(KeyboardInterrupt):
            train.main(task)
    return handed[0]


@pytest.mark.parametrize("choose", ["random", "herding", "class-mean"])
def test_the_memory_is_training_images_of_the_classes_that_the_champion_knows(remembering, monkeypatch, choose):
    remembering(images=3, choose=choose)
    images = trained_images(monkeypatch)
    pool, rows = images.pool, images.rows
    assert images.remembered == 9
    assert set(pool.splits[rows]) == {"train"}
    assert set(pool.tasks[rows[:-9]]) == {"t2"}
    assert set(pool.tasks[rows[-9:]]) == {"t1"}
    assert images.targets[-9:].bincount().tolist() == [3, 3, 3]
    assert [("0", "1", "2", "3", "4")[target] for target in images.targets.tolist()] == pool.labels[rows].tolist()


def test_pending_tasks_are_no_memory_since_all_of_them_is_trained_on(learned_digits, tmp_path, monkeypatch):
    root = copied(learned_digits, tmp_path / "pending")

    def third(values):
        values["tasks"]["t3"] = {"previous": "t2", "recipe": "later", "source": "digits", "classes": ["5"]}
        values["decisions"]["t3"] = "auto"
        values["report"]["after"] = "t3"
        values["training"]["later"]["memory"] = {"images": 2, "choose": "random"}

    edit(root, third)
    monkeypatch.chdir(root)
    files = Workspace(root)
    split.main("t3")
    shutil.copytree(files.champion_model("t1"), files.champion_model("t2"))  # the second candidate was rejected
    Pending(tasks=("t2",)).save(files.pending("t2"))
    images = trained_images(monkeypatch, "t3")
    assert images.remembered == 6
    assert set(images.pool.tasks[images.rows[-6:]]) == {"t1"}
    assert (images.pool.tasks[images.rows] == "t2").sum() == ShardRecord.load(files.shard("t2") / "shard.json").counts[
        "train"
    ]


def test_two_stages_with_a_memory_are_the_same_to_the_byte_and_say_what_they_learned_from(remembering, capsys):
    roots = []
    for _ in range(2):
        roots.append(remembering(images=3, choose="herding"))
        train.main("t2")
    assert outputs(roots[0]) == outputs(roots[1])
    assert re.search(r"t2: \d+ images of t2 and 9 of older tasks, 5 classes; ", capsys.readouterr().out)


def test_the_memory_changes_what_is_learned_and_so_does_how_it_is_chosen(remembering):
    found = []
    for memory in (
        {"images": 0, "choose": "herding"},
        {"images": 3, "choose": "random"},
        {"images": 3, "choose": "herding"},
    ):
        root = remembering(**memory)
        train.main("t2")
        found.append(outputs(root)[f"artifacts/t2/candidate/model/{WEIGHTS}"])
    assert len(set(found)) == 3


@pytest.mark.parametrize("method", ["frozen", "joint"])
def test_a_frozen_backbone_and_joint_training_have_no_use_for_a_memory(remembering, monkeypatch, method):
    root = remembering(images=3, choose="herding")
    edit(root, lambda values: values["training"]["later"].update(method=method))
    images = trained_images(monkeypatch)
    assert images.remembered == 0
    assert set(images.pool.tasks[images.rows]) == ({"t2"} if method == "frozen" else {"t1", "t2"})


def test_a_memory_read_from_disk_gives_the_same_bytes(remembering):
    found = []
    for limit in (0, 100):
        root = remembering(images=3, choose="herding")
        edit(root, lambda values, limit=limit: values["runtime"].update(max_in_memory_mb=limit))
        train.main("t2")
        found.append(outputs(root))
    assert found[0] == found[1]


@pytest.mark.slow
def test_a_stage_with_a_memory_that_is_killed_ends_with_the_same_bytes(remembering):
    whole, cut = (remembering(images=3, choose="herding") for _ in range(2))
    finish(whole)
    kill_after(start(cut), "epoch 2/4", delay=0)
    assert "resuming t2 after epoch" in finish(cut)
    assert outputs(cut) == outputs(whole)


def test_pending_tasks_are_trained_on_after_the_champions_classes(split_digits, tmp_path, monkeypatch):
    root = copied(split_digits, tmp_path / "pending")
    monkeypatch.chdir(root)
    files = Workspace(root)
    shutil.copytree(files.champion_model("init"), files.champion_model("t1"))  # the first candidate was rejected
    Pending(tasks=("t1",)).save(files.pending("t1"))
    train.main("t2")
    record = ModelRecord.load(files.candidate_model("t2") / RECORD)
    assert record.trained_on == ("t1", "t2")
    assert record.classes == ("0", "1", "2", "3", "4")
    assert not (files.curves("t2") / "train" / "csd.tsv").exists()  # no champion, so no teacher


def test_an_unknown_task_is_refused(split_digits, monkeypatch):
    monkeypatch.chdir(split_digits)
    with pytest.raises(ParamsError, match="task t9: there is no such task; known: t1, t2"):
        train.main("t9")


@pytest.mark.slow
def test_a_missing_gpu_ends_the_stage_with_one_line(split_digits, tmp_path):
    root = copied(split_digits, tmp_path / "cuda")
    edit(root, lambda values: values["compute"].update(device="cuda"))
    process = start(root, "t1")
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 5
    assert errors.splitlines() == [
        "compute.device: cuda: torch finds no GPU here; set it to auto or cpu, or install a CUDA build"
    ]
