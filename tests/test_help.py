"""What `--help` says: one sentence for every command and every option, and nothing cut."""

import ast
import inspect
import io
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from csd_core import cli
from csd_core.commands.tree import app

ROOT = Path(__file__).parents[1]


def commands(group, name):
    """Every command below a group, with all of its names."""
    yield name, group
    for each in group:
        if not each.startswith("-"):
            yield from commands(group[each], f"{name} {each}")


COMMANDS = dict(commands(app, "csd"))


def options(command):
    if command.default_command is None:
        return []
    return [
        each for each in command.assemble_argument_collection(parse_docstring=True) if each.parameter.show is not False
    ]


def is_a_sentence(text):
    return bool(text) and text[0].isupper() | text.startswith("`") and text.rstrip().endswith(".")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_has_a_sentence(name):
    command = COMMANDS[name]
    described = inspect.cleandoc(command.help).partition("Parameters\n---")[0]
    assert is_a_sentence(described.partition("\n")[0])
    for option in options(command):
        if option.children:  # a group of options has no line of its own
            continue
        assert is_a_sentence(option.parameter.help or ""), option.name
        assert not option.parameter.help.startswith(("Of ", "For ", "Whose")), option.name


def test_the_list_of_commands_says_what_each_says_itself():
    for name in app:
        if name.startswith("-") or app[name].default_command is None:
            continue
        docstring = inspect.getdoc(app[name].default_command)
        assert app[name].help == docstring.partition("\n\nParameters\n---")[0]


def test_the_list_of_groups_says_what_each_says_itself():
    """What the table gives a group is what its module gives it."""
    for path in (ROOT / "csd_core" / "commands").glob("*.py"):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "App" and path.stem != "tree":
                said = {each.arg: ast.literal_eval(each.value) for each in call.keywords}
                assert app[said["name"]].help == said["help"]


@pytest.mark.parametrize("width", [80, 60])
@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_not_cut(name, width):
    written = io.StringIO()
    console = Console(file=written, width=width, force_terminal=True, color_system=None)
    app.help_print(name.split()[1:], console=console)
    text = written.getvalue()
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    joined = "".join(text.replace("│", "").split())
    for option in options(COMMANDS[name]) if width == 80 else ():  # narrower, names are folded between the words
        assert "".join((option.parameter.help or "").split()) in joined, option.name


def test_every_command_is_listed_with_its_sentence(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    listed = "".join(capsys.readouterr().out.replace("│", "").split())
    for name in app:
        if not name.startswith("-"):
            assert "".join((name + app[name].help.partition("\n")[0]).split()) in listed


@pytest.mark.parametrize("arguments", [["--version"], ["items", "--version"], ["publish", "--version"]])
def test_the_version_is_said(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert not ended.value.code
    assert capsys.readouterr().out.startswith("csd 0.")


def test_help_and_version_load_no_command(capsys, monkeypatch):
    code = (
        "import csd_core.cli as c; import atexit, sys; atexit.register(lambda: print(*sys.modules)); c.main(['--help'])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    loaded = told.splitlines()[-1].split()
    assert not {"lancedb", "torch", "sklearn", "csd_core.commands.production.items"} & set(loaded)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["publish", "--tsk", "t1"], "Unknown option: --tsk. Did you mean --task?; `csd publish --help`"),
        (["publsh"], 'Unknown command "publsh". Did you mean "publish"?'),
        (["items", "show"], "`csd items show --help`"),
        (["serve", "--port", "abc"], "unable to convert"),
        (["keys", "add", "x", "--role", "owner"], 'Choose from: "read", "write"'),
    ],
)
def test_wrong_arguments_are_one_line_and_exit_code_2(arguments, problem, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    said = capsys.readouterr()
    assert (ended.value.code, said.out) == (2, "")
    assert problem in said.err
    assert said.err.count("\n") == 1
