import subprocess
import sys

from csd_core.system.children import end, family, lives

STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; print('ready', flush=True); time.sleep(900)"])
print("ready", flush=True)
time.sleep(900)
"""
"""A program that has started another and does not end when it is asked to."""


def test_a_program_ends_with_what_it_started_and_its_exit_code_stays_for_its_starter():
    with subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE, text=True) as process:
        assert [process.stdout.readline(), process.stdout.readline()] == ["ready\n", "ready\n"]
        processes = family(process)
        assert len(processes) == 2
        end(processes, seconds=0.3)
        assert not any(map(lives, processes))
        assert process.wait() == -9


def test_a_program_that_has_ended_has_no_family():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert family(process) == []
    end([], seconds=900)
