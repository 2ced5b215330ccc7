"""The training stage in two processes: one outcome, one voice, one end."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import safetensors.torch
import torch
from patience import PATIENCE
from stage_params import change_params

from csd_core.learning.networks.weights import WEIGHTS
from csd_core.stages import train
from csd_core.workspace import Workspace

STAGE = ("-m", "csd_core.stages.train")
CURVES = ["select/recall_at_1.tsv", *(f"train/{name}.tsv" for name in ("ce", "lr", "total", "triplet"))]


@pytest.fixture
def project(split_digits, tmp_path):
    """A function that makes a project whose first task two processes train for some epochs."""
    names = iter(range(10))

    def make(*, epochs=2, **first):
        root = shutil.copytree(split_digits, tmp_path / str(next(names)))

        def change(values):
            values["compute"]["processes"] = 2
            values["training"]["network"]["width"] = 8
            values["training"]["first"].update(epochs=epochs, **first)

        change_params(root, change)
        return root

    return make


@pytest.fixture
def start():
    """A function that starts the stage; whatever is left of it ends with the test."""
    started = []

    def run(root, *command, task="t1", path=()):
        places = [*map(str, path), str(Path(__file__).parents[2])]
        process = subprocess.Popen(
            [sys.executable, *(command or STAGE), task],
            cwd=root,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(places), "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append((process, family := []))
        return process, family

    yield run
    for process, family in started:
        for each in (process, *family):
            if each.poll() is None if isinstance(each, subprocess.Popen) else each.is_running():
                each.kill()
        process.communicate()


def until(process, pattern, family):
    """Wait for a line; then `family` holds the processes that train."""
    for line in process.stdout:
        if re.search(pattern, line):
            break
    family.extend(psutil.Process(process.pid).children(recursive=True))
    assert len(family) == 2


def ended(family):
    _, alive = psutil.wait_procs(family, timeout=PATIENCE)
    return not alive


def weights(root):
    return safetensors.torch.load_file(Workspace(root).candidate_model("t1") / WEIGHTS)


@pytest.mark.slow
def test_two_processes_leave_the_outs_of_one_and_speak_with_one_voice(project, start, monkeypatch):
    root, alone = project(), project()
    process, _ = start(root)
    change_params(alone, lambda values: values["compute"].update(processes=1))
    monkeypatch.chdir(alone)
    train.main("t1")
    printed, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (0, "")
    said = dict.fromkeys(line.partition(":")[0] for line in printed.splitlines())  # a warning may follow, of t1 too
    assert list(said) == [
        "2 processes train together",
        "start-up",
        "epoch 1/2",
        "epoch 2/2",
        "t1",
    ]
    curves = Workspace(root).curves("t1")
    assert sorted(path.relative_to(curves).as_posix() for path in curves.rglob("*.tsv")) == CURVES
    assert not list((root / ".csd" / "unfinished").glob("*"))
    together, expected = weights(root), weights(alone)
    for name, value in expected.items():
        torch.testing.assert_close(together[name], value, atol=0.01, rtol=0.01)


@pytest.mark.slow
def test_torchrun_starts_the_stage_as_well_as_it_starts_itself(project, start):
    root, other = project(), project()
    for folder, command in (
        (root, STAGE),
        (other, ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *STAGE)),
    ):
        process, _ = start(folder, *command)
        printed, errors = process.communicate(timeout=PATIENCE)
        assert (process.returncode, errors) == (0, "")
        assert printed.count("epoch 2/2") == 1
    mine, theirs = weights(root), weights(other)
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.slow
def test_a_stage_killed_outright_leaves_no_process_and_resumes_to_the_same_weights(project, start):
    whole, cut = project(epochs=30), project(epochs=30)
    process, _ = start(whole)
    process.communicate(timeout=PATIENCE)
    process, family = start(cut)
    until(process, r"epoch [23]/30", family)
    process.kill()
    process.communicate()
    assert ended(family)
    alone = shutil.copytree(cut, cut.with_name("alone"))
    change_params(alone, lambda values: values["compute"].update(processes=1))
    for root, resumed in ((cut, 1), (alone, 0)):  # one process would round otherwise: it starts from the beginning
        process, _ = start(root)
        printed, errors = process.communicate(timeout=PATIENCE)
        assert (process.returncode, errors) == (0, "")
        assert printed.count("resuming t1 after epoch") == resumed
    mine, theirs = weights(whole), weights(cut)
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_is_killed_ends_the_other_with_one_line(project, start, rank):
    process, family = start(project(epochs=5000))
    until(process, r"epoch 1/", family)
    (victim,) = [each for each in family if each.environ()["RANK"] == str(rank)]
    victim.kill()
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + signal.SIGKILL
    assert errors.splitlines() == [
        f"training process {rank} of 2 was killed by signal 9, as when memory runs out; run again to resume"
    ]
    assert ended(family)


@pytest.mark.slow
def test_an_interrupted_stage_says_so_once_and_leaves_no_process(project, start):
    process, family = start(project(epochs=5000))
    until(process, r"epoch 1/", family)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (130, "interrupted; run again to resume\n")
    assert "interrupted" not in printed
    assert ended(family)


@pytest.mark.slow
def test_an_error_of_all_processes_is_one_line(project, start):
    process, _ = start(project(optimizer={"name": "sgd", "lr": 1e30, "weight_decay": 0.0, "momentum": 0.9}))
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 5
    (line,) = errors.splitlines()
    assert re.match(r"loss \w+ of task t1 is \S+ in epoch 1, batch 2 of 4; lower optimizer.lr", line)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_an_error_of_one_process_is_its_line_and_ends_the_other(project, start, tmp_path, rank):
    (tmp_path / "sitecustomize.py").write_text(
        "import os\n"
        f"if os.environ.get('RANK') == '{rank}':\n"
        "    from csd_core.data import shards\n"
        "    from csd_core.system.errors import DataError\n"
        "    def load_shard(folder):\n"
        "        raise DataError(f'{folder}: the disk is broken; fix it')\n"
        "    shards.load_shard = load_shard\n"
    )
    process, _ = start(project(), path=[tmp_path])
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 3
    assert errors.splitlines() == ["data/shards/t1: the disk is broken; fix it"]


@pytest.mark.slow
def test_an_unknown_task_is_refused_before_any_process_starts(project, start):
    process, _ = start(project(), task="t9")
    printed, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    assert errors.splitlines() == ["task t9: there is no such task; known: t1, t2"]
    assert printed == ""
