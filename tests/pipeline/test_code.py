"""What an edit of the code makes DVC run again, and that a stage loads no more code than its digest covers."""

import os
import subprocess
import sys

import pytest

from csd_core.code_digest.digest import FRAME, CodeTree
from csd_core.params.file import load_params
from csd_core.stages.code import closure_of

pytestmark = pytest.mark.slow

RUNS = (("init", None), ("ingest", "digits"), ("split", "t2"), ("train", "t1"), ("train", "t2"), ("export", "t2"),
        ("adapt", "t2"), ("check", "t2"), ("promote", "t2"), ("report", None))  # fmt: skip

LISTENER = """
import atexit, os, sys
atexit.register(lambda: open(os.environ["CSD_LOADED"], "w").write("\\n".join(sys.modules)))
"""


@pytest.fixture(scope="module")
def project(finished_run, tmp_path_factory):
    return finished_run[0].copy(tmp_path_factory.mktemp("edited") / "project")


def edit(project, file, former, now):
    path = project.root / "csd_core" / file
    text = path.read_text(encoding="utf-8")
    assert former in text
    path.write_text(text.replace(former, now, 1), encoding="utf-8")


def ran(project, *command):
    lines = project.run("dvc", "repro", *command).stdout.splitlines()
    return [line.split("'")[1] for line in lines if line.startswith("Running stage")]


def test_a_comment_and_a_docstring_run_no_stage_but_the_one_that_takes_digests(project):
    edit(project, "data/sources/digits.py", "import numpy", "# numbers\nimport numpy")
    edit(project, "learning/losses.py", '"""Losses', '"""The losses')
    edit(project, "learning/methods/bct.py", "class Bct", "MORE = 1\n\n\nclass Bct")
    assert ran(project) == ["code"]


def test_a_constant_of_a_loss_trains_again_and_its_former_value_comes_back_from_the_cache(project):
    weights = (project.files.candidate_model("t1") / "weights.safetensors").read_bytes()
    edit(project, "learning/losses.py", "\n\n\ndef ", "\n\n\nMORE = 1\n\n\ndef ")
    assert ran(project, "train@t1") == ["code", "train@t1"]
    edit(project, "learning/losses.py", "\n\n\nMORE = 1\n\n\ndef ", "\n\n\ndef ")
    assert ran(project, "train@t1") == ["code"]
    assert (project.files.candidate_model("t1") / "weights.safetensors").read_bytes() == weights


def test_a_stage_loads_no_module_that_its_digest_leaves_out(project, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(LISTENER)
    code, params = CodeTree(project.root), load_params(project.root / "params.yaml")
    behind = {module for each in FRAME for module in code.imports(each)}  # the frame's own, where no stage uses them
    for stage, name in RUNS:
        subprocess.run(
            [sys.executable, "-m", f"csd_core.stages.{stage}", *([name] if name else [])],
            cwd=project.root,
            env=os.environ
            | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{project.root}", "CSD_LOADED": str(tmp_path / "loaded")},
            check=True,
            capture_output=True,
        )
        loaded = {
            each for each in (tmp_path / "loaded").read_text().splitlines() if each.partition(".")[0] == "csd_core"
        }
        assert loaded - closure_of(code, params, stage, name) - FRAME - behind == set(), stage
        assert f"csd_core.stages.{stage}" in loaded
