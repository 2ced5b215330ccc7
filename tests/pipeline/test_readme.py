"""Every command and snippet of the README is run, in order, in one checkout (with profile tiny: minutes, not hours)."""

import re
import sys

import pytest
from checkout import ROOT, make_photos, new_project

pytestmark = pytest.mark.slow

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(sh|python)\n(.*?)```", README, flags=re.DOTALL)


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """A checkout whose .venv is the environment of the tests, and images to search."""
    project = new_project(tmp_path_factory.mktemp("reader") / "project")
    (project.root / ".venv").symlink_to(sys.prefix)
    make_photos(project.root / "data" / "raw" / "photos", ("cat", "dog"))
    make_photos(project.root / "data" / "raw" / "more-photos", ("owl",), brightness=100)
    profile = project.root / "csd_core/project/profiles" / "imagefolder.yaml"
    text = profile.read_text(encoding="utf-8").replace("pixels: 64", "pixels: 12")
    text = re.sub(r"epochs: \d+", "epochs: 2", text)
    text = re.sub(r"min_map_at_r: \S+", "min_map_at_r: 0.0\n  min_recall: 0.0", text)
    profile.write_text(text, encoding="utf-8")
    return project


def commands(block):
    return [line for line in block.splitlines() if line and not line.startswith("#")]


def test_the_readme_has_what_this_test_runs():
    assert [kind for kind, _ in BLOCKS] == ["sh", "sh", "python", "sh", "sh", "sh", "sh", "sh"]
    assert commands(BLOCKS[0][1]) == ["make run", "make test"]


def test_every_block_runs_in_order(reader):
    two_commands, dvc, python, own, more, inbox, replay, production = (block for _, block in BLOCKS)
    # `make test` would run this test again; that it would run the tests is all that can be asked here
    assert "pytest" in reader.run("make", "--dry-run", "test").stdout
    # the environment of the tests is installed; make must not install this checkout into it
    installed = "--old-file=.venv/.installed"
    first = reader.run("make", installed, commands(two_commands)[0].removeprefix("make "))
    assert "Report: report/index.html" in first.stdout
    assert "Nothing to do" in reader.run("make", installed, "run").stdout
    for block in (dvc, own, more, inbox, replay, production):
        if block is own:
            reader.run(sys.executable, "-c", python + "\nassert vectors.shape == (2, embedder.metadata.dimension)")
        reader.run("bash", "-euo", "pipefail", "-c", block)
    assert list(reader.files.gallery("t2").iterdir())
    assert "rolled back" in (reader.root / "releases" / "audit.jsonl").read_text(encoding="utf-8")
