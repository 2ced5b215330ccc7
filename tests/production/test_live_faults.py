"""A live gallery whose disk fails, or whose process is killed, at any system call that changes a file."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from csd_core.live.rows import LiveItems
from csd_core.system.errors import StorageError

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def library(preloaded):
    return preloaded("faults.c")


def failures(library, folder, operation, every):
    """Way -> how many calls failed, one at a time; each time the gallery was whole, and the next attempt succeeded."""
    environment = os.environ | {"LD_PRELOAD": str(library), "FAULTS_BELOW": str(folder / "place")}
    command = [sys.executable, str(HERE / "faulty.py"), str(folder), operation, str(every)]
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_a_first_deletion_that_fails_at_some_calls_is_done_again_and_nothing_is_lost(library, tmp_path):
    failed = failures(library, tmp_path, "delete", every=13)
    assert failed["no room"] > 2
    assert failed["killed"] > 2


@pytest.mark.slow
@pytest.mark.parametrize("operation", ["build", "upsert", "delete", "erase"])
def test_any_call_may_fail_and_the_next_attempt_succeeds_with_nothing_lost(library, tmp_path, operation):
    failed = failures(library, tmp_path, operation, every=1)
    assert min(failed.values()) >= 15


def built(live, gallery_of_items):
    live.build("g", gallery_of_items(5), origin="pipeline", images=None)


def test_a_folder_without_a_version_is_no_table(live, gallery_of_items, tmp_path):
    built(live, gallery_of_items)
    (tmp_path / "live" / "tombstones.lance" / "_versions").mkdir(parents=True)
    assert live.half_made() == ("tombstones",)
    assert live.delete("g", ["item-1"], why="test") == 1
    assert live.half_made() == ()
    assert live.tombstones_of(["item-1"]).tombstones_found


def test_a_table_that_lost_its_versions_is_not_made_again(live, gallery_of_items, tmp_path):
    built(live, gallery_of_items)
    shutil.rmtree(tmp_path / "live" / "catalogue.lance" / "_versions")
    with pytest.raises(Exception, match=r"table catalogue has rows, but no version leads to them .* restore"):
        live.tables()


@pytest.mark.skipif(not shutil.which("strace"), reason="strace makes the faults")
@pytest.mark.parametrize("fault", ["error=ENOSPC", "signal=SIGKILL"])
@pytest.mark.slow
def test_the_first_link_of_a_first_deletion_may_fail(live, gallery_of_items, tmp_path, fault):
    built(live, gallery_of_items)
    program = (
        "import sys; from pathlib import Path; from csd_core.live.gallery import LiveGallery;"
        "root = Path(sys.argv[1]);"
        "LiveGallery.open(str(root / 'live'), lock=root / 'write.lock').delete('g', ['nosuch'], why='')"
    )
    inject = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"inject=link,linkat:{fault}:when=1"]
    ended = subprocess.run([*inject, sys.executable, "-c", program, str(tmp_path)], check=False, capture_output=True)
    assert ended.returncode != 0
    assert live.count("g") == 5
    assert live.delete("g", ["item-1"], why="test") == 1
    assert live.tombstones_of(["item-1"]).tombstones_found


@pytest.mark.skipif(os.geteuid() != 0, reason="a small disk is mounted, which root alone may do")
def test_a_write_that_finds_no_room_says_so_in_one_line_and_what_was_there_is_whole(live, gallery_of_items, tmp_path):
    disk = tmp_path / "live"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], check=False).returncode:
        pytest.skip("a small disk is mounted, which root may not do here")
    try:
        built(live, gallery_of_items)
        (disk / "filler").write_bytes(b"0" * (os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize))
        vectors = gallery_of_items(50).vectors
        some = gallery_of_items(50, prefix="new-")
        with pytest.raises(StorageError, match=r"live gallery, .*: No space left on device; .* make room and try"):
            live.upsert("g", LiveItems(ids=some.ids, labels=some.labels, vectors=vectors, embedded_by="m"))
        assert live.count("g") == 5
        (disk / "filler").unlink()
        assert live.delete("g", ["item-1"], why="test") == 1
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
