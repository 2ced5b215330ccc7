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
from csd_core.records.stages import ModelRecord
from csd_core.records.verdict import Pending
from csd_core.stages import train
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
    pytest.fail("the stage ended before it was seen writing")


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
    root = copied(learned_digits, tmp_path / "killed")
    work = root / ".csd" / "unfinished"
    for _ in range(5):
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
@pytest.mark.parametrize("seed", range(5))
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
        lambda root: shutil.copy2(
            root / "data" / "shards" / "t2" / "images.npy", root / "artifacts" / "t1" / "champion" / "model" / WEIGHTS
        ),
        lambda root: (root / "data" / "seen" / "t2.json").write_text(
            re.sub(r'"digest": "\w', '"digest": "-', (root / "data" / "seen" / "t2.json").read_text())
        ),
    ],
    ids=["seed", "weight", "champion", "images"],
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
