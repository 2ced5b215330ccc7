import os
import subprocess
import sys

import pytest

from csd_core.errors import ParamsError
from csd_core.serving import keys
from csd_core.serving.keys import KeyFile, KeyRing, issue, revoke


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


def test_a_damaged_file_lets_nobody_in(path, caplog):
    token = issue(path, "shop", "read")
    ring = KeyRing(path)
    assert ring.key_of(token)
    path.write_text("{")
    os.utime(path, ns=(1, 1))
    assert ring.key_of(token) is None
    assert ring.empty


def test_names_are_unique_and_plain(path):
    issue(path, "shop", "read")
    with pytest.raises(ParamsError, match="csd keys revoke shop"):
        issue(path, "shop", "write")
    with pytest.raises(ParamsError, match="letters"):
        issue(path, "a shop", "read")
    with pytest.raises(ParamsError, match="csd keys list"):
        revoke(path, "nobody")
    assert [key.name for key in KeyFile.at(path).keys] == ["shop"]


def csd(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "csd_core.cli", *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )


def test_the_command_prints_a_key_once_and_lists_names(tmp_path):
    made = csd("keys", "add", "shop", "--role", "write", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert KeyRing(tmp_path / "keys.json").key_of(made.stdout.strip()).role == "write"
    listed = csd("keys", "list", cwd=tmp_path).stdout
    assert "shop" in listed
    assert made.stdout.strip() not in listed
    assert csd("keys", "revoke", "shop", cwd=tmp_path).returncode == 0
    assert KeyRing(tmp_path / "keys.json").empty
