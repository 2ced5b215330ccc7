"""The same commit, parameters and machine give the same bytes; and real Fashion-MNIST goes through. Minutes."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from checkout import ROOT, Project, new_project

pytestmark = pytest.mark.slow


def clone(source, target):
    """A clean clone of the last commit."""
    subprocess.run(["git", "clone", "-q", "--no-local", str(source), str(target)], check=True)
    return Project(target)


def shorten(values):
    """Leave everything as it ships but the number of epochs and the third task, which takes the second's way."""
    for recipe in ("first", "later"):
        values["training"][recipe]["epochs"] = 2
    del values["tasks"]["t3"], values["decisions"]["t3"]
    values["report"]["after"] = "t2"


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="an archive without git cannot be cloned")
def test_two_clones_at_different_paths_write_the_same_lock(tmp_path):
    one = clone(ROOT, tmp_path / "one")
    one.edit(shorten)
    git = ("git", "-c", "user.name=Tester", "-c", "user.email=tester@localhost")
    one.run(*git, "commit", "--quiet", "--all", "--message", "fewer epochs")
    other = clone(one.root, tmp_path / "elsewhere" / "with a longer name")
    for project in (one, other):
        project.csd("run")
    assert list((one.root / "csd_core").rglob("__pycache__"))
    assert (one.root / "dvc.lock").read_bytes() == (other.root / "dvc.lock").read_bytes()
    assert one.files.metrics.read_bytes() == other.files.metrics.read_bytes()
    changed = one.run("git", "status", "--porcelain").stdout.split()
    assert set(changed) <= {"??", "dvc.lock", "metrics.json"}


SHELLS = {
    "threads": {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OMP_DYNAMIC": "true"},
    "kernels": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "OPENBLAS_CORETYPE": "Nehalem"},
    "text": {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"},
    "place": {
        "TZ": "Pacific/Kiritimati",
        "TMPDIR": "other",
        "COLUMNS": "20",
        "USER": "somebody",
        "PYTHONHASHSEED": "7",
    },
}
"""Shells that could change what is computed."""


def test_the_shell_changes_no_byte_of_any_output(finished_run, tmp_path, monkeypatch):
    """The third task's files stay for the report: its stages are the second's with another name."""
    before, _ = finished_run
    project = before.copy(tmp_path / "an other name")
    expected = {stage: known for stage, known in before.lock().items() if not stage.endswith("@t3")}
    made = [out["path"] for known in expected.values() for out in known["outs"]]
    for path in (project.root / each for each in (".dvc/cache", ".dvc/tmp", *made)):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (project.root / "dvc.lock").unlink()
    (tmp_path / "other").mkdir()
    for name, value in (pair for shell in SHELLS.values() for pair in shell.items()):
        monkeypatch.setenv(name, str(tmp_path / value) if name == "TMPDIR" else value)
    everyone, cores = os.umask(0), os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(cores)})
        project.run("dvc", "repro", "--no-run-cache", "promote@t2")
        project.run("dvc", "repro", "--no-run-cache", "--single-item", "report")
    finally:
        os.umask(everyone)
        os.sched_setaffinity(0, cores)
    assert project.lock() == expected
    assert project.files.metrics.read_bytes() == before.files.metrics.read_bytes()


@pytest.mark.skipif(
    not Path("/usr/share/datasets/fashion-mnist").is_dir(), reason="Fashion-MNIST is not installed on this machine"
)
def test_fashion_mnist_goes_through_at_a_reduced_size(tmp_path):
    project = new_project(tmp_path / "project", profile="fashion-mnist-2")

    def reduce(values):
        values["sources"]["published"]["fashion-mnist"]["limit_per_class"] = 100
        values["training"]["network"].update(depth=8, width=8)
        for stage in ("first", "later"):
            values["training"][stage].update(epochs=2, batch_size=64)
        values["gate"].update(max_regression=0.2, max_task_regression=0.2, max_excess_flips=0.2, min_recall=0.5)

    project.edit(reduce)
    printed = project.csd("run").stdout
    assert "t2" in printed
    assert project.files.page.is_file()
    shutil.rmtree(project.root)
