"""How programs of csd end: one line and an exit code, whatever stopped them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from csd_core.system.endings import plain_endings
from csd_core.system.errors import CsdError

ROOT = Path(__file__).parents[1]
STAGES = sorted(
    path.stem
    for path in (ROOT / "csd_core" / "stages").glob("*.py")
    if f'run_stage("{path.stem}")' in path.read_text(encoding="utf-8")
)
PROGRAMS = {
    **{f"csd_core.stages.{stage}": "interrupted; run again to resume\n" for stage in STAGES},
    "csd_core.cli": "interrupted\n",
}


def run(module, *arguments, folder, **environment):
    """A program of csd that finds `folder` before the libraries it imports."""
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def stand_in(folder, module, text):
    """Put a module of our own in the place of a library."""
    (folder / f"{module}.py").write_text(text)


@pytest.mark.parametrize("module", PROGRAMS)
def test_ctrl_c_during_imports_is_one_line(module, tmp_path):
    for library in ("cyclopts", "pydantic"):
        stand_in(tmp_path, library, "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(30)\n")
    ended = run(module, folder=tmp_path)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", PROGRAMS[module])


def test_ctrl_c_ends_the_program_even_where_a_library_swallows_it(tmp_path):
    swallowing = (
        "import os, signal, time\ntry:\n    os.kill(os.getpid(), signal.SIGINT)\n    time.sleep(30)\n"
        "except BaseException:\n    pass\n"
    )
    stand_in(tmp_path, "pydantic", swallowing)
    ended = run("csd_core.stages.init", folder=tmp_path)
    assert (ended.returncode, ended.stderr) == (130, "interrupted; run again to resume\n")


@pytest.mark.parametrize("stage", ["init", "train"])  # one that takes no argument, one that takes one
def test_a_stage_called_with_the_wrong_number_of_arguments_says_how_to_call_it(stage, tmp_path):
    ended = run(f"csd_core.stages.{stage}", "a", "b", "c", folder=tmp_path)
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"3 arguments were given; call it as `python -m csd_core.stages.{stage}")
    assert ended.stderr.count("\n") == 1


def test_a_missing_part_of_the_installation_is_one_line(tmp_path):
    stand_in(tmp_path, "torch", "raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')\n")
    ended = run("csd_core.stages.train", "t1", folder=tmp_path)
    assert ended.returncode == 1
    assert ended.stderr.startswith("the package torch is missing")
    assert ended.stderr.count("\n") == 1


def test_a_bug_shows_its_traceback(tmp_path):
    stand_in(tmp_path, "torch", "1 / 0\n")
    ended = run("csd_core.stages.train", "t1", folder=tmp_path)
    assert ended.returncode == 1
    assert "ZeroDivisionError" in ended.stderr
    assert "Traceback" in ended.stderr


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        ("OSError(28, 'No space left on device', 'params.yaml')", "params.yaml: No space left on device"),
        ("OSError(5, 'Input/output error')", "a file cannot be read or written: Input/output error"),
        ("PermissionError(13, 'Permission denied', b'a', None, 'b')", "a -> b: Permission denied"),
        ("MemoryError('Unable to allocate 3 GiB')", "out of memory: Unable to allocate 3 GiB; give this machine more,"),
        ("RecursionError()", "an input is nested too deeply to be read"),
        ("CsdError('a\\x1bb')", "a\\x1bb"),
    ],
)
def test_a_fault_of_the_environment_is_one_line(fault, line, capsys):
    with pytest.raises(SystemExit) as ended, plain_endings():
        raise eval(fault)  # noqa: S307 - a literal of this test
    said = capsys.readouterr().err
    assert ended.value.code == 1
    assert said.startswith(line)
    assert said.count("\n") == 1


def test_a_traceback_of_a_fault_is_shown_to_who_asks_for_it(monkeypatch):
    monkeypatch.setenv("CSD_DEBUG", "1")
    with pytest.raises(CsdError), plain_endings():
        raise CsdError("told")


def test_an_exit_code_of_the_program_stays(capsys):
    with pytest.raises(SystemExit) as ended, plain_endings():
        sys.exit(7)
    assert ended.value.code == 7
