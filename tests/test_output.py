"""What commands print to other encodings, closed pipes, full disks and no stream at all."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMMANDS = (("profile", "list"), ("params", "check"), ("params", "schema"), ("--help",), ("tasks", "add", "--help"))
CLOSED = (">&-", "<&- >&- 2>&-", ">&-", ">&- 2>&-", ">&- 2>&-")
ENCODINGS = ("cp1252", "latin-1", "utf-8", "ascii", "ascii")
CSD = (sys.executable, "-m", "csd_core.cli")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    (folder / "profiles").mkdir()
    (folder / "profiles" / "plain.yaml").write_text("# Ein Gerät · größer → kleiner, 日本\n", encoding="utf-8")
    shutil.copy(ROOT / "csd_core/project/profiles" / "digits.yaml", folder / "params.yaml")
    return folder


def run(project, command, *, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **environment):
    return subprocess.run(
        [*CSD, *command],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=stdout,
        stderr=stderr,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(("command", "encoding"), list(zip(COMMANDS, ENCODINGS, strict=True)))
def test_every_encoding_gets_the_output(project, command, encoding):
    done = run(project, command, PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode(encoding).strip()


def test_characters_that_an_encoding_lacks_are_spelt(project):
    assert b"Ein Gerat - grosser -> kleiner, ??" in run(project, ("profile", "list"), PYTHONIOENCODING="ascii").stdout
    c = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    assert b"Ein Gerat - grosser -> kleiner, ??" in run(project, ("profile", "list"), **c).stdout


def test_an_error_is_spelt_too(project):
    done = run(project, ("profile", "use", "größe\udcff·"), PYTHONIOENCODING="ascii")
    assert done.returncode == 2
    assert done.stderr.startswith(b"profile: 'grosse\\udcff-'")
    assert done.stderr.count(b"\n") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk_under_the_output_is_one_line_and_no_success(project, command):
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = run(project, command, stdout=full)
    assert done.returncode == 1
    assert done.stderr == b"the output cannot be written: No space left on device\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_pipe_that_nobody_reads_ends_the_command_in_silence(project, command):
    reads, writes = os.pipe()
    os.close(reads)
    try:
        done = run(project, command, stdout=writes)
    finally:
        os.close(writes)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize(("command", "closed"), list(zip(COMMANDS, CLOSED, strict=True)))
def test_a_command_without_output_does_its_work(project, command, closed):
    line = f"{' '.join(CSD)} {' '.join(command)} {closed}"
    done = subprocess.run(["sh", "-c", line], cwd=project, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == 0


def test_an_error_that_cannot_be_told_keeps_its_exit_code(project):
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        assert run(project, ("profile", "use", "nosuch"), stdout=full, stderr=full).returncode == 2
