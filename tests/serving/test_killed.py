"""kill -9 of a worker and of the whole service in mid-write, and a disk that is full."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import psutil
import pytest
from patience import PATIENCE
from services import png, published, put, search, serving

sys.path.append(str(Path(__file__).parents[1] / "data"))

import bombs

from csd_core.serving.app import SETTINGS, Settings
from csd_core.serving.server import PARENT
from csd_core.serving.telemetry import MULTIPROCESS


def write_until(url, stop, written, problems):
    turn = 0
    while not stop.is_set():
        turn += 1
        try:
            answer = put(url, f"k{turn}", png(turn % 2, seed=turn), label="live")
        except httpx.TransportError:
            time.sleep(0.02)
            continue
        if answer.status_code in (200, 201):
            written.append(f"k{turn}")
        else:
            problems.append(answer.text)


def both_serve(running):
    """Wait for two workers: the first answers while the second still starts."""
    running.wait_until(
        lambda _: sum(line.get("message") == "release served" for line in running.log()) >= 2, "two workers"
    )


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_what_was_acknowledged_is_there(tmp_path):
    project = published(tmp_path / "project", "none")
    with serving(project, "--workers", "2") as running:
        both_serve(running)
        family = psutil.Process(running.process.pid).children()
        children = [each for each in family if "resource_tracker" not in " ".join(each.cmdline())]
        assert len(children) == 2
        stop, written, problems = threading.Event(), [], []
        writer = threading.Thread(target=write_until, args=(running.url, stop, written, problems))
        writer.start()
        for child in children:
            time.sleep(1)
            child.kill()
        time.sleep(4)
        stop.set()
        writer.join()
        assert problems == []
        assert len(written) > 5
        assert set(written) <= project.rows().keys()
        assert running.ready().status_code == 200
        figures = httpx.get(f"{running.url}/metrics", timeout=PATIENCE).text
        assert "csd_requests_total" in figures


@pytest.mark.slow
def test_a_killed_service_leaves_no_process_and_no_half_write(tmp_path):
    project = published(tmp_path / "project", "none")
    stop, written, problems = threading.Event(), [], []
    with serving(project, "--workers", "2") as running:
        both_serve(running)
        writer = threading.Thread(target=write_until, args=(running.url, stop, written, problems))
        writer.start()
        time.sleep(2)
        family = psutil.Process(running.process.pid).children(recursive=True)
        os.kill(running.process.pid, signal.SIGKILL)
        with serving(project, "--workers", "2", port=running.port) as again:  # at once, on the same port
            gone, alive = psutil.wait_procs(family, timeout=PATIENCE)
            stop.set()
            writer.join()
            assert not alive
            assert len(gone) == len(family)
            again.serves(1)  # what answered before may have been a worker of the dead one
            assert put(again.url, "after", png(1), label="live").status_code == 201
            assert search(again.url, png(0)).status_code == 200
    assert written
    assert set(written) <= project.rows().keys()
    assert project.findings() == ()


def test_a_worker_whose_parent_died_while_it_started_ends_too(tmp_path):
    project = published(tmp_path / "project", "none")
    settings = Settings(root=project.root, workers=2, loopback=True, keys=None)
    (tmp_path / "figures").mkdir()
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    given = {SETTINGS: settings.model_dump_json(), PARENT: str(dead.pid), MULTIPROCESS: str(tmp_path / "figures")}
    program = "import time; from csd_core.serving.server import worker; worker(); time.sleep(60)"
    ended = subprocess.run([sys.executable, "-c", program], env=os.environ | given, check=False, timeout=PATIENCE)
    assert ended.returncode == -signal.SIGTERM


def waiting(url):
    """Requests that are being answered, this one aside."""
    figures = httpx.get(f"{url}/metrics", timeout=PATIENCE).text
    return float(re.search(r"^csd_waiting (\S+)$", figures, re.MULTILINE)[1])


@pytest.mark.slow
def test_a_graceful_end_finishes_what_was_taken(tmp_path):
    project = published(tmp_path / "project", "none")
    with serving(project) as running:
        taken = []
        for number in range(4):
            file = png(0, seed=number)
            head = f"PUT /v1/items/last-{number}?label=live HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
            connection = socket.create_connection(("127.0.0.1", running.port), timeout=PATIENCE)
            connection.sendall(f"{head}Content-Length: {len(file)}\r\n\r\n".encode() + file[:20])
            taken.append((connection, file[20:]))
        running.wait_until(lambda _: waiting(running.url) >= len(taken), "all four are taken")
        running.process.terminate()
        time.sleep(0.5)
        assert running.process.poll() is None  # it waits for what was begun
        for connection, rest in taken:
            connection.sendall(rest)
        assert [connection.recv(64).split()[1] for connection, _ in taken] == [b"201"] * 4
        assert running.process.wait(30) == 0
        for connection, _ in taken:
            connection.close()
    assert {f"last-{number}" for number in range(4)} <= project.rows().keys()


@pytest.mark.slow
def test_a_graceful_end_of_two_workers_finishes_decoding_writing_and_searching(tmp_path):
    project = published(tmp_path / "project", "none")
    slow = bombs.png(6240, 6250, 16, 6)
    with serving(project, "--workers", "2") as running:
        both_serve(running)
        family = psutil.Process(running.process.pid).children(recursive=True)
        taken, answers = [], []
        for number in range(8):
            file = png(0, seed=number)
            line = f"PUT /v1/items/last-{number}?label=live" if number % 2 else "POST /v1/search"
            head = f"{line} HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
            connection = socket.create_connection(("127.0.0.1", running.port), timeout=PATIENCE)
            connection.sendall(f"{head}Content-Length: {len(file)}\r\n\r\n".encode() + file[:20])
            taken.append((connection, file[20:]))
        decoding = threading.Thread(target=lambda: answers.append(search(running.url, slow).status_code))
        decoding.start()
        running.wait_until(lambda _: waiting(running.url) >= len(taken) + 1, "all are taken")
        running.process.terminate()
        time.sleep(0.5)
        for connection, rest in taken:
            connection.sendall(rest)
        assert [connection.recv(64).split()[1] for connection, _ in taken] == [b"200", b"201"] * 4
        decoding.join(PATIENCE)
        assert answers == [200]
        assert running.process.wait(PATIENCE) in (0, -signal.SIGTERM)
        assert not psutil.wait_procs(family, timeout=PATIENCE)[1]
        for connection, _ in taken:
            connection.close()
    with serving(project, "--workers", "2", port=running.port) as again:
        assert search(again.url, png(0)).status_code == 200
    assert {f"last-{number}" for number in range(1, 8, 2)} <= project.rows().keys()


@pytest.mark.skipif(os.geteuid() != 0, reason="a small disk is mounted, which root alone may do")
def test_a_full_disk_refuses_writes_and_answers_searches(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)], check=False).returncode:
        pytest.skip("a small disk is mounted, which root may not do here")
    try:
        project = published(disk / "project", "none")
        with serving(project) as running:
            (disk / "filler").write_bytes(b"x" * (_free(disk) - 4096))
            refused = put(running.url, "new", png(0), label="live")
            assert (refused.status_code, refused.json()["type"]) == (507, "urn:csd:problem:storage-full"), refused.text
            assert search(running.url, png(0)).status_code == 200
            (disk / "filler").unlink()
            assert put(running.url, "new", png(0), label="live").status_code == 201
        assert "new" in project.rows()
        assert project.findings() == ()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def _free(disk):
    facts = os.statvfs(disk)
    return facts.f_bavail * facts.f_frsize
