"""A project on a disk that cannot be written: reading works, writing is one line."""

import errno
import os
import subprocess
import sys

import pytest
from projects import Project

from csd_core.releases.publish import publish
from csd_core.serving.http.problems import problem_of
from csd_core.system.errors import StorageError


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_the_service_answers_503_where_it_may_not_write(number):
    for error in (OSError(number, "no", "/x"), StorageError.of(OSError(number, "no", "/x"))):
        problem = problem_of(error, request_id="")
        assert (problem.status, problem.slug) == (503, "storage-read-only")
        assert problem.detail == str(StorageError.of(OSError(number, "no", "/x")))


def test_what_a_library_tells_in_words_becomes_the_same_error():
    error = StorageError.told_in("LanceError(IO): No space left on device (os error 28), src/x.rs", where="g")
    assert (str(error), error.errno) == (
        "g: No space left on device; what was there is untouched; make room and try again",
        errno.ENOSPC,
    )
    assert StorageError.told_in("No such file (os error 2)", where="g") is None


@pytest.mark.skipif(os.geteuid() != 0, reason="a folder is mounted read-only, which root alone may do")
def test_a_read_only_project_can_be_verified_and_each_change_is_one_line(tmp_path):
    project = Project(tmp_path / "project", tasks=("t1", "t2"), images=6)
    project.promote("t1", "none").promote("t2", "adapt")
    publish(project.production, task="t1")
    root = str(project.root)
    if subprocess.run(["mount", "--bind", root, root], check=False).returncode:
        pytest.skip("a folder is mounted read-only, which root may not do here")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", root], check=True)
        program = (
            "import sys\nfrom csd_core.cli import main\n"
            "for words in sys.stdin.read().splitlines():\n"
            "    try:\n        main(words.split())\n"
            "    except SystemExit as ended:\n        print('exit', ended.code, words, flush=True)\n"
        )
        commands = [
            "verify",
            "verify --all",
            "items list",
            "releases",
            "items delete nosuch",
            "items erase nosuch",
            "items compact",
            "publish",
            "rollback 1 --why x",
            "backfill --why x",
            "items take-over --why x",
        ]
        told = subprocess.run(
            [sys.executable, "-c", program],
            input="\n".join(commands),
            cwd=root,
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        subprocess.run(["umount", "-l", root], check=True)
    ended = {line.split(maxsplit=2)[2]: line.split()[1] for line in told.stdout.splitlines() if line.startswith("exit")}
    assert list(ended) == commands, told.stderr
    assert [ended[each] for each in commands[:4]] == ["0"] * 4, told.stderr
    assert {ended[each] for each in commands[4:]} == {"1"}, told.stdout
    errors = told.stderr.splitlines()
    assert len(errors) == 7, told.stderr
    assert all("Read-only file system" in line for line in errors), told.stderr
    assert project.findings() == ()
