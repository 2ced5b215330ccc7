"""Every command that writes without a project, on a disk that fills at one step or another, scratch files too."""

import hashlib
import shutil
import tempfile
from pathlib import Path

import pytest
from small_disks import AMOUNTS, only_free, small_disk


@pytest.fixture
def disk(tmp_path, monkeypatch):
    with small_disk(tmp_path / "disk", megabytes=48) as mounted:
        if not mounted:
            pytest.skip("a small disk is mounted, which root alone may do")
        (tmp_path / "disk" / "scratch").mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "disk" / "scratch"))
        yield tmp_path / "disk"


@pytest.fixture
def words(models, photos):
    """Command -> its words but for where to write."""
    given = ("--images", photos, "--gallery", "gallery")
    return {
        "index": ("upgrade", "index", models["weak"], "--images", photos),
        "plan": ("upgrade", "plan", models["weak"], models["good"], *given),
        "apply": ("upgrade", "apply", "plan", *given),
        "wrap": ("upgrade", "wrap", models["weak"]),
        "check": ("check", models["weak"], models["good"], "--images", photos),
    }


def contents(folder):
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize("command", ["index", "plan", "apply", "wrap", "check"])
def test_a_full_disk_is_one_line_and_the_command_succeeds_once_there_is_room(csd, words, disk, command):
    if command in ("plan", "apply"):
        assert csd(*words["index"], "-o", "gallery")[0] == 0
    if command == "apply":
        assert csd(*words["plan"], "-o", "plan")[0] == 0
    before = {name: contents(Path(name)) for name in ("gallery", "plan")}
    failed = 0
    for amount in AMOUNTS:
        out = disk / f"out-{amount}"
        with only_free(disk, amount):
            code, _, told = csd(*words[command], "-o", out)
            if code == 0:
                break
            failed += 1
            assert (code, told.count("\n")) == (1, 1), (amount, told)
            assert "No space left on device" in told, (amount, told)
            assert "make room and try again" in told, (amount, told)
            assert not out.exists(), amount
            assert not list((disk / "scratch").iterdir()), amount
        assert csd(*words[command], "-o", out)[0] == 0, amount
        shutil.rmtree(out) if out.is_dir() else out.unlink()
    assert code == 0, told
    assert failed >= 2
    assert {name: contents(Path(name)) for name in ("gallery", "plan")} == before
