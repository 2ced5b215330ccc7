import pytest

from csd_core import cli
from csd_core.serving.keys import KeyRing


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments):
    """Exit code of the command line."""
    with pytest.raises(SystemExit) as stopped:
        cli.main(["keys", *arguments])
    return stopped.value.code or 0


def test_a_key_is_all_that_stdout_gets(folder, capsys):
    assert run("add", "shop", "--role", "write") == 0
    printed = capsys.readouterr()
    token = printed.out.removesuffix("\n")
    assert "\n" not in token
    assert KeyRing(folder / "keys.json").key_of(token).role == "write"
    assert printed.err == "store it now: keys.json has only its hash\n"


def test_the_list_names_keys_and_roles_and_shows_no_key(capsys):
    run("add", "shop", "--role", "write")
    run("add", "page", "--role", "read")
    tokens = capsys.readouterr().out.split()
    assert run("list") == 0
    listed = capsys.readouterr().out
    assert [line.split()[:2] for line in listed.splitlines()[1:]] == [["shop", "write"], ["page", "read"]]
    assert not any(token in listed for token in tokens)


def test_a_revoked_key_is_gone_and_its_name_free(folder, capsys):
    run("add", "shop", "--role", "read")
    token = capsys.readouterr().out.strip()
    assert run("revoke", "shop") == 0
    assert capsys.readouterr().out == "key shop is revoked\n"
    assert KeyRing(folder / "keys.json").key_of(token) is None
    assert run("add", "shop", "--role", "read") == 0


def test_another_file_can_be_named(folder, capsys):
    assert run("add", "shop", "--role", "read", "--file", "elsewhere.json") == 0
    assert not (folder / "keys.json").exists()
    capsys.readouterr()
    run("list", "--file", "elsewhere.json")
    assert "shop" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("add", "shop", "--role", "read"), "key shop: there is one of that name in keys.json"),
        (("add", "a shop", "--role", "read"), "key 'a shop': a name has 1 to 64 letters"),
        (("revoke", "nobody"), "key nobody: there is none of that name in keys.json"),
    ],
)
def test_a_wrong_name_is_one_line_and_exit_code_2(capsys, arguments, said):
    run("add", "shop", "--role", "write")
    capsys.readouterr()
    assert run(*arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(said)
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize("arguments", [("add", "shop", "--role", "read"), ("list",), ("revoke", "shop")])
def test_a_damaged_file_is_one_line_with_the_remedy_and_exit_code_4(folder, capsys, arguments):
    (folder / "keys.json").write_text("{")
    assert run(*arguments) == 4
    printed = capsys.readouterr().err
    assert printed.endswith("restore it from a backup, or delete it and make new keys with `csd keys add`\n")
    assert printed.count("\n") == 1
