import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from patience import PATIENCE

from csd_core.system import parent
from csd_core.system.parent import tied

SLEEP = [sys.executable, "-c", "import time; time.sleep(900)"]

only_linux = pytest.mark.xfail(sys.platform != "linux", reason="only Linux ties them", run=False)


def ended(pid, *, within=PATIENCE):
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False


@only_linux
def test_a_tied_program_ends_with_a_starter_that_is_killed_outright(tmp_path):
    pid = tmp_path / "pid"
    program = (
        "import subprocess, sys; from csd_core.system.parent import tied\n"
        f"subprocess.Popen(tied([sys.executable, '-c', {writes_its_pid(pid)!r}])).wait()"
    )
    starter = subprocess.Popen([sys.executable, "-c", program])
    started = int(await_text(pid))
    assert psutil.Process(started).is_running()
    starter.kill()
    starter.wait()
    assert ended(started)


def writes_its_pid(file):
    return (
        f"import os, pathlib, time; target = pathlib.Path({str(file)!r})\n"
        "part = target.with_suffix('.part'); part.write_text(str(os.getpid())); part.rename(target); time.sleep(900)"
    )


def await_text(file: Path) -> str:
    deadline = time.monotonic() + PATIENCE
    while not file.exists():
        assert time.monotonic() < deadline, "the program did not start"
        time.sleep(0.05)
    return file.read_text()


@only_linux
def test_the_program_takes_the_place_of_the_wrapper():
    with subprocess.Popen(tied(SLEEP)) as process:
        deadline = time.monotonic() + PATIENCE
        while psutil.Process(process.pid).cmdline() != SLEEP:
            assert time.monotonic() < deadline, psutil.Process(process.pid).cmdline()
            time.sleep(0.02)
        process.kill()
    assert process.returncode == -signal.SIGKILL


def test_output_arguments_and_exit_code_are_the_programs_own():
    program = [sys.executable, "-c", "import sys; print(sys.argv[1:]); sys.exit(7)", "--flag", "a b"]
    done = subprocess.run(tied(program), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, "['--flag', 'a b']\n", "")


def test_a_program_in_a_checkout_with_flows_of_its_own_is_tied_all_the_same(tmp_path):
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "__init__.py").write_text("raise SystemExit('the checkout was imported')")
    program = tied([sys.executable, "-c", "print('fine')"])
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "fine\n")


def test_elsewhere_than_on_linux_the_program_is_started_as_it_is(monkeypatch):
    monkeypatch.setattr(parent.sys, "platform", "darwin")
    assert tied(("dvc", "repro")) == ["dvc", "repro"]


@only_linux
def test_a_program_that_does_not_exist_is_named():
    done = subprocess.run(tied(["no-such-program"]), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "no-such-program: No such file or directory\n")


@only_linux
def test_a_program_whose_starter_died_before_the_request_is_not_started(tmp_path):
    wrapper = tied([sys.executable, "-c", f"open({str(tmp_path / 'started')!r}, 'w')"])
    dead = wrapper.index(str(os.getpid()))
    wrapper[dead] = "0"  # nobody's number
    assert subprocess.run(wrapper, check=False).returncode == 1
    assert not (tmp_path / "started").exists()
