"""The command on the smallest profile, with real DVC."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from filelock import FileLock
from patience import PATIENCE

from csd_core import cli

ROOT = Path(__file__).parents[2]
FOLDER = Path("comparisons/runs/example")

SHORT = """
extends: tiny
tasks:
  t1: {previous: init, recipe: first, source: digits, classes: ["0", "1", "2", "3"]}
  t2: {previous: t1, recipe: later, source: digits, classes: ["4", "5", "6"]}
decisions: {t1: auto, t2: auto}
report: {after: t2}
"""
BROKEN = """
profiles: {short: {}}
contenders:
  broken: {overrides: {training: {later: {method: finetune, optimizer: {lr: 1.0e+30}}}}}
  csd: {}
seeds: [1]
reference: csd
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "comparisons").mkdir()
    for name in ("dvc.yaml", ".dvcignore", "comparisons/example.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(*arguments):
    return [sys.executable, "-m", "csd_core.cli", "compare", "run", *arguments]


def run(*arguments):
    return subprocess.run(command(*arguments), capture_output=True, text=True, check=False, env=of_terminal())


def of_terminal():
    return {**os.environ, "PYTHONPATH": "", "PYTHONUNBUFFERED": "1"}


def logs(project):
    return "".join(log.read_text() for log in sorted((project / FOLDER).rglob("cell.log")))


def wait_for(condition, *, seconds, what):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"after {seconds} s still not {what}")
        time.sleep(0.05)


def at_work_in(folder):
    """Processes whose working directory lies below a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cwd"):
        try:
            where = entry.readlink()
        except OSError:
            continue
        if where != folder and where.is_relative_to(folder):
            found.append(entry)
    return found


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_killed_comparison_resumes_and_trains_the_first_stage_once(project):
    (project / "profiles").mkdir()
    (project / "profiles/short.yaml").write_text(SHORT)
    example = project / "comparisons/example.yaml"
    example.write_text(example.read_text().replace("tiny: {}", "short: {}"))
    log = project / FOLDER / "cells/short/finetune/seed-1/cell.log"
    killed = subprocess.Popen(command("comparisons/example.yaml"), env=of_terminal(), stdout=subprocess.DEVNULL)
    try:
        wait_for(
            lambda: log.is_file() and "Running stage 'train@t2'" in log.read_text(),
            seconds=PATIENCE,
            what="at the second stage",
        )
    finally:
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    wait_for(lambda: not at_work_in(project), seconds=PATIENCE, what="without children")
    assert not (project / FOLDER / "results.parquet").exists()

    resumed = run("comparisons/example.yaml")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    first, second, last = resumed.stdout.splitlines()
    assert re.fullmatch(r"1 of 2 · short/finetune/1: done, \d+ (s|min); about \d+ (s|min) left", first)
    assert re.fullmatch(r"2 of 2 · short/csd/1: done, \d+ (s|min)", second)
    assert last == f"{FOLDER}/results.parquet: 2 of 2 cells"
    printed = logs(project)
    assert printed.count("Running stage 'train@t1'") == 1
    assert printed.count("Stage 'train@t1' is cached") == 1
    assert printed.count("Running stage 'train@t2'") == 3  # one of them was killed

    rows = pq.read_table(project / FOLDER / "results.parquet").to_pylist()
    of = {(row["contender"], row["measure"], row["after"], row["on"]): row["value"] for row in rows}
    assert of["finetune", "recall_own", "t1", "t1"] == of["csd", "recall_own", "t1", "t1"]
    assert 0 < of["csd", "average", None, None] <= 1
    assert {row["contender"] for row in rows if row["measure"] == "train_seconds" and row["after"] == "t1"} == {
        "finetune"
    }
    assert {(row["contender"], row["after"]) for row in rows if row["measure"] == "gate_adapted"} == {
        ("finetune", "t2"),
        ("csd", "t2"),
    }

    promoted = {(row["contender"], row["after"]) for row in rows if row["measure"] == "promoted" and row["value"]}
    tested = {(row["contender"], row["after"]) for row in rows if row["measure"] == "test_queries"}
    assert tested == promoted

    table = (project / FOLDER / "results.parquet").read_bytes()
    again = run("comparisons/example.yaml", "--jobs", "2")
    assert again.returncode == 0
    assert again.stdout.count("nothing was stale") == 2
    assert (project / FOLDER / "results.parquet").read_bytes() == table

    (project / "broken.yaml").write_text(BROKEN)
    broken = run("broken.yaml", "--folder", str(FOLDER))
    assert broken.returncode == 1
    assert "loss" in broken.stdout
    assert "2 of 2 · short/csd/1: nothing was stale" in broken.stdout
    assert broken.stderr == "1 of 2 cells failed: short/broken/1; their last lines stand above\n"
    left = {row["contender"] for row in pq.read_table(project / FOLDER / "results.parquet").to_pylist()}
    assert left == {"csd", "finetune"}  # what this comparison leaves alone stays


def refused(*arguments):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["compare", "run", *arguments])
    return stopped.value.code


def test_a_mistake_in_the_file_ends_the_command_before_anything_is_made(project, capsys):
    file = project / "comparisons" / "example.yaml"
    file.write_text(file.read_text().replace("tiny: {}", "tinny: {}"))
    assert refused("comparisons/example.yaml") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("comparisons/example.yaml: profiles: profile tinny: there is no such profile")
    assert not FOLDER.exists()


def test_elsewhere_than_in_the_project_the_command_says_so(project, capsys):
    (project / "dvc.yaml").unlink()
    assert refused("comparisons/example.yaml") == 3
    assert capsys.readouterr().err == "dvc.yaml: there is no such file; go to the project's folder, or run `csd init`\n"


def test_two_runs_of_one_comparison_do_not_work_at_once(project, capsys):
    FOLDER.mkdir(parents=True)
    with FileLock(FOLDER / ".lock"):
        assert refused("comparisons/example.yaml") == 1
    assert capsys.readouterr().err.startswith(f"comparison {FOLDER} is in use by another process; try again")
