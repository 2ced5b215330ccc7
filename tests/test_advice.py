"""Advice can be followed: every command that a message or a document names exists, with these options."""

import ast
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from cyclopts import CycloptsError

from csd_core.commands.tree import app

ROOT = Path(__file__).parents[1]
TARGETS = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
QUOTED = re.compile(r"`((?:csd|dvc|make) [^`]+)`")


def texts():
    """Every string of the product, with formatted parts as a name."""
    for folder in ("csd_core", "flows", "deploy"):
        for path in (ROOT / folder).rglob("*.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            for node in ast.walk(tree):
                if isinstance(node, ast.JoinedStr):
                    parts = [each.value if isinstance(each, ast.Constant) else "NAME" for each in node.values]
                    yield path, "".join(map(str, parts))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield path, node.value


def advice():
    found = {}
    for path, text in texts():
        for command in QUOTED.findall(text):
            found.setdefault(" ".join(command.split()), str(path.relative_to(ROOT)))
    for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for command in QUOTED.findall(path.read_text(encoding="utf-8")):
            found.setdefault(" ".join(command.split()), str(path.relative_to(ROOT)))
    return found


ADVICE = advice()


def words_of(command):
    return shlex.split(command.replace("...", "").replace("…", "").replace("[", "").replace("]", ""))[1:]


def problem_of(words):
    """What is wrong with words after `csd`: an unknown command, or an option that it does not have."""
    group = app
    while words and group.default_command is None and not words[0].startswith("-"):
        if words[0] not in list(group):
            return f"no command {words[0]}"
        group, words = group[words[0]], words[1:]
    if group.default_command is None:
        return None
    try:
        names = {name for each in group.assemble_argument_collection() for name in each.names}
    except CycloptsError as error:
        return str(error)
    unknown = [word for word in words if word.startswith("-") and word.partition("=")[0] not in {*names, "--help"}]
    return f"no option {', '.join(unknown)}" if unknown else None


@pytest.mark.parametrize("command", sorted(each for each in ADVICE if each.startswith("csd ")))
def test_a_csd_command_that_is_named_exists_with_its_options(command):
    assert problem_of(words_of(command)) is None, ADVICE[command]


@pytest.mark.parametrize("command", sorted(each for each in ADVICE if each.startswith("make ")))
def test_a_make_target_that_is_named_exists(command):
    words = [word for word in words_of(command) if "=" not in word]
    assert set(words[:1]) <= TARGETS, ADVICE[command]


def test_dvc_has_the_commands_and_options_that_are_named():
    code = (
        "import sys\nfrom dvc.cli.parser import get_main_parser\n"
        "for line in sys.stdin.read().splitlines():\n"
        "    try: get_main_parser().parse_args([*line.split(), '--help'])\n"
        "    except SystemExit as end: problem = end.code\n"
        "    except Exception as error: problem = repr(error)\n"
        "    if problem: print('wrong:', line, problem)\n"
    )
    named = [" ".join(words_of(command)) for command in ADVICE if command.startswith("dvc ")]
    told = subprocess.run(
        [sys.executable, "-c", code], input="\n".join(named), text=True, check=True, capture_output=True
    )
    assert [line for line in told.stdout.splitlines() if line.startswith("wrong:")] == []


def test_there_is_advice_to_check():
    assert len(ADVICE) > 40
