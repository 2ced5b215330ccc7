import subprocess

import pytest

from csd_core.learning.curves import live_curves, save_curves
from csd_core.system.errors import TrainingError

HISTORY = [
    {"train/ce": 0.1 + 0.2, "select/recall_at_1": 0.5},
    {"train/ce": 1e-7, "select/recall_at_1": 2 / 3},
    {"train/ce": 0.0, "select/recall_at_1": 1.0},
]


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def written(tmp_path, name, *, before):
    """The plot files of a run that was interrupted after `before` epochs."""
    with live_curves(tmp_path / "live", HISTORY[:before]) as curves:
        for epoch in HISTORY[before:]:
            curves.add(epoch)
    save_curves(tmp_path / "live", tmp_path / name)
    return files(tmp_path / name)


def test_curves_are_one_plot_file_for_each_scalar_and_nothing_else(tmp_path):
    found = written(tmp_path, "curves", before=0)
    assert found.keys() == {"train/ce.tsv", "select/recall_at_1.tsv"}
    lines = found["train/ce.tsv"].decode().splitlines()
    assert lines[0] == "step\tce"
    assert [float(line.split("\t")[1]) for line in lines[1:]] == [epoch["train/ce"] for epoch in HISTORY]


def test_an_interrupted_run_writes_the_same_bytes(tmp_path):
    whole = written(tmp_path, "whole", before=0)
    assert [written(tmp_path, f"resumed{epochs}", before=epochs) for epochs in (1, 2, 3)] == [whole] * 3


def test_a_git_repository_without_a_commit_is_one_line(tmp_path, monkeypatch):
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    subprocess.run(["dvc", "init", "--quiet"], cwd=tmp_path, check=True, capture_output=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TrainingError, match="Empty git repo.*; commit the project"), live_curves(tmp_path / "l", []):
        pass
