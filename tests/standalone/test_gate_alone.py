"""Every block of docs/gate-alone.md is run, in order, in an empty folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "gate-alone.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(sh|python)\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    """Runs blocks in a folder of one's own, with csd and python on the PATH."""
    folder = tmp_path_factory.mktemp("stranger")
    commands = folder / "bin"
    commands.mkdir()
    for name, call in (("csd", "-m csd_core.cli"), ("python", "")):
        command = commands / name
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" {call} "$@"\n')
        command.chmod(0o755)
    work = folder / "work"
    work.mkdir()
    environment = {**os.environ, "PATH": f"{commands}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}

    def run(kind, block):
        start = ["bash", "-euo", "pipefail", "-c"] if kind == "sh" else [sys.executable, "-c"]
        done = subprocess.run([*start, block], cwd=work, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    run.folder = work
    return run


def rows_of(text):
    """First word -> (Recall@1 of all queries, what stands under `passes`), for each line of a table."""
    found = re.findall(
        r"^(status quo|keep|adapt|merge|partial 50 %|backfill) +([0-9.]+) .*?(yes|no: \w+|not .*)?$",
        text,
        flags=re.MULTILINE,
    )
    return {name: (float(recall), passes) for name, recall, passes in found}


@pytest.mark.slow
def test_every_block_of_the_page_runs_in_order(stranger):
    assert [kind for kind, _ in BLOCKS] == ["python", "sh", "sh", "python", "sh", "sh", "python", "python", "sh"]
    printed = [stranger(kind, block) for kind, block in BLOCKS]
    shown = rows_of(re.search(r"```\n(Recall@1.*?)```", PAGE, flags=re.DOTALL).group(1))
    found = rows_of(re.sub(r" +$", "", printed[1], flags=re.MULTILINE))
    assert list(shown) == ["status quo", "keep", "adapt", "merge", "partial 50 %", "backfill"]
    for name, (recall, passes) in shown.items():
        assert found[name] == (pytest.approx(recall, abs=1), passes), printed[1]
    assert "rejected" in (stranger.folder / "worse.txt").read_text()
    assert (stranger.folder / "check.md").read_text().startswith("## Promoted under ")
    assert "labelled: 1,000 rows of 10 classes" in printed[4]
    assert "gallery-2: 0 rows embedded, 1,000 mapped" in printed[5]
    assert "from its best" in (stranger.folder / "back.txt").read_text()
    assert "photos/0/0000.png: the same vector" in printed[8]
    same = (stranger.folder / "same.txt").read_text()
    assert "backfill: all classes +0.0 points, at worst -" in same
    assert "must gain more than 0.0" in same
