"""The same commit, parameters and machine give the same bytes; and real Fashion-MNIST goes through. Minutes."""

import shutil
import subprocess
from pathlib import Path

import pytest
from checkout import ROOT, Project, new_project

pytestmark = pytest.mark.slow


def clone(target):
    """A clean clone of the last commit."""
    subprocess.run(["git", "clone", "-q", "--no-local", str(ROOT), str(target)], check=True)
    return Project(target)


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="an archive without git cannot be cloned")
def test_two_clones_at_different_paths_write_the_same_lock(tmp_path, monkeypatch):
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    one = clone(tmp_path / "one")
    other = clone(tmp_path / "elsewhere" / "with a longer name")
    for project in (one, other):
        project.csd("run")
    assert list((one.root / "csd_core").rglob("__pycache__"))
    assert (one.root / "dvc.lock").read_bytes() == (other.root / "dvc.lock").read_bytes()
    assert one.files.metrics.read_bytes() == other.files.metrics.read_bytes()
    changed = one.run("git", "status", "--porcelain").stdout.split()
    assert set(changed) <= {"??", "dvc.lock", "metrics.json"}


@pytest.mark.skipif(
    not Path("/usr/share/datasets/fashion-mnist").is_dir(), reason="Fashion-MNIST is not installed on this machine"
)
def test_fashion_mnist_goes_through_at_a_reduced_size(tmp_path):
    project = new_project(tmp_path / "project", profile="fashion-mnist-2")

    def reduce(values):
        values["sources"]["published"]["fashion-mnist"]["limit_per_class"] = 300
        values["training"]["network"].update(depth=8, width=8)
        for stage in ("first", "later"):
            values["training"][stage].update(epochs=3, batch_size=64)
        values["gate"].update(max_regression=0.2, max_task_regression=0.2, max_excess_flips=0.2, min_recall=0.5)

    project.edit(reduce)
    printed = project.csd("run").stdout
    assert "t2" in printed
    assert project.files.page.is_file()
    shutil.rmtree(project.root)
