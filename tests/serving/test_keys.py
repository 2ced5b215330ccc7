import errno
import os
import subprocess
import sys

import pytest

from csd_core.serving import keys
from csd_core.serving.keys import KeyFile, KeyRing, issue, revoke
from csd_core.system.errors import ArtifactError, ParamsError


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setattr(keys, "_LOOK_SECONDS", 0.0)
    return tmp_path / "keys.json"


def test_a_key_is_known_by_its_hash_alone(path):
    token = issue(path, "shop", "read")
    assert token.startswith("csd_")
    assert token not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert KeyRing(path).key_of(token).role == "read"
    assert KeyRing(path).key_of(token + "x") is None


def test_a_revoked_key_is_refused_without_a_restart(path):
    token, other = issue(path, "shop", "read"), issue(path, "robot", "write")
    ring = KeyRing(path)
    assert ring.key_of(token) is not None
    revoke(path, "shop")
    assert ring.key_of(token) is None
    assert ring.key_of(other).name == "robot"


def test_a_damaged_file_lets_nobody_in_and_the_log_says_once_what_to_do(path, caplog):
    token = issue(path, "shop", "read")
    ring = KeyRing(path)
    assert ring.key_of(token)
    whole = path.read_text()
    path.write_text("{")
    os.utime(path, ns=(1, 1))
    assert ring.key_of(token) is None
    assert ring.key_of(token) is None
    (record,) = caplog.records
    assert record.message.startswith(f"keys unreadable: {path}: not a KeyFile")
    assert record.message.endswith("restore it from a backup, or delete it and make new keys with `csd keys add`")
    path.write_text(whole)
    assert ring.key_of(token).name == "shop"


def test_a_damaged_file_is_not_called_empty_and_takes_no_further_key(path):
    assert KeyRing(path).empty
    path.write_text("{")
    for use in (lambda: KeyRing(path).empty, lambda: issue(path, "shop", "read"), lambda: revoke(path, "shop")):
        with pytest.raises(ArtifactError, match="restore it from a backup"):
            use()
    assert path.read_text() == "{"


def test_a_failure_to_read_that_passes_locks_nobody_out_for_good(path, monkeypatch):
    token = issue(path, "shop", "read")
    ring = KeyRing(path)

    def fail(_):
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as broken:
        broken.setattr(KeyFile, "load", fail)
        assert ring.key_of(token) is None
    assert ring.key_of(token).name == "shop"


def test_a_path_that_cannot_be_looked_at_lets_nobody_in(path, caplog):
    path.write_text("a file, no folder")
    assert KeyRing(path / "keys.json").key_of("csd_any") is None
    assert "Not a directory" in caplog.text


def test_a_file_that_is_deleted_lets_nobody_in(path):
    token = issue(path, "shop", "read")
    ring = KeyRing(path)
    assert ring.key_of(token)
    path.unlink()
    assert ring.key_of(token) is None


def test_the_file_is_looked_at_once_a_second_at_most(path, monkeypatch):
    token = issue(path, "shop", "read")
    ring = KeyRing(path)
    assert ring.key_of(token)
    monkeypatch.setattr(keys, "_LOOK_SECONDS", 3600.0)
    path.unlink()
    assert ring.key_of(token).name == "shop"


def test_every_key_is_compared_whichever_fits(path, monkeypatch):
    tokens = [issue(path, name, "read") for name in ("a", "b", "c")]
    ring = KeyRing(path)
    compared = []
    real = keys.hmac.compare_digest
    monkeypatch.setattr(keys.hmac, "compare_digest", lambda *pair: compared.append(pair) or real(*pair))
    for token in (*tokens, "csd_unknown"):
        compared.clear()
        ring.key_of(token)
        assert len(compared) == 3


def test_names_are_unique_and_plain(path):
    issue(path, "shop", "read")
    with pytest.raises(ParamsError, match="csd keys revoke shop"):
        issue(path, "shop", "write")
    with pytest.raises(ParamsError, match="letters"):
        issue(path, "a shop", "read")
    with pytest.raises(ParamsError, match="csd keys list"):
        revoke(path, "nobody")
    assert [key.name for key in KeyFile.at(path).keys] == ["shop"]


def test_a_folder_that_may_not_be_written_to_is_said_in_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ArtifactError, match="cannot be written .*name another --file"):
        issue(tmp_path / "file" / "keys.json", "shop", "read")


CHANGES = """
import sys
from pathlib import Path
from csd_core.serving.keys import issue, revoke

path, name = Path(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
for number in range(25):
    issue(path, f"{name}-{number}", "read")
    if number % 2:
        revoke(path, f"{name}-{number}")
"""


def test_two_processes_that_change_the_file_at_once_lose_no_key(path):
    command = [sys.executable, "-c", CHANGES, str(path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([*command, "a"], **pipes) as a, subprocess.Popen([*command, "b"], **pipes) as b:
        for each in (a, b):
            assert each.stdout.readline() == "ready\n"
        for each in (a, b):
            each.stdin.write("go\n")
            each.stdin.flush()
    assert (a.returncode, b.returncode) == (0, 0)
    wanted = {f"{name}-{number}" for name in "ab" for number in range(0, 25, 2)}
    assert {key.name for key in KeyFile.at(path).keys} == wanted
