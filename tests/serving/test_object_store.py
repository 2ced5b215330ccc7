"""The store behind `live.uri` refuses, or hangs, while items are written."""

import threading
import time

import httpx
import pytest
from object_store import BUCKET, object_store
from patience import PATIENCE
from services import PNG, png, published, put, search, serving


@pytest.fixture
def store(monkeypatch):
    with object_store() as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        yield running


class Writer(threading.Thread):
    """Writes one item after the other, until it is told to stop.

    Attributes:
        written: Items that were acknowledged.
        refused: Answers that say why not.
    """

    def __init__(self, url):
        super().__init__(daemon=True)
        self._url, self.stopped = url, threading.Event()
        self.written, self.refused = [], []

    def run(self):
        turn = 0
        while not self.stopped.is_set():
            turn += 1
            answer = put_patiently(self._url, f"w{turn}", png(turn % 2, seed=turn))
            if answer.status_code == 201:
                self.written.append(f"w{turn}")
            else:
                self.refused.append(answer)


def put_patiently(url, identity, image):
    return httpx.put(f"{url}/v1/items/{identity}?label=live", content=image, headers=PNG, timeout=PATIENCE)


def until(holds):
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("trouble", ["refuse", "hang"])
def test_a_store_that_fails_in_mid_write_loses_nothing_and_holds_up_nothing(store, tmp_path, trouble):
    project = published(tmp_path / "project", "none", settings={"uri": f"s3://{BUCKET}/gallery"})
    with serving(project) as running:
        writer = Writer(running.url)
        writer.start()
        until(lambda: len(writer.written) >= 3)
        getattr(store, trouble)()
        before = len(writer.written)
        while not writer.refused:
            assert search(running.url, png(0)).status_code == 200
            embedded = httpx.post(f"{running.url}/v1/embed", content=png(1), headers=PNG, timeout=PATIENCE)
            assert embedded.status_code == 200
            assert httpx.get(f"{running.url}/healthz", timeout=PATIENCE).status_code == 200
            assert httpx.get(f"{running.url}/metrics", timeout=PATIENCE).status_code == 200
        assert len(writer.written) <= before + 1  # one may have been answered as the store went
        degraded = running.wait_until(lambda answer: answer.json()["trouble"], "the trouble is told")
        assert "s3://" in degraded["trouble"] or BUCKET in degraded["trouble"]
        at_once = put_patiently(running.url, "refused", png(0))
        store.come_back()
        running.wait_until(lambda answer: answer.json()["status"] == "ready", "the store is back")
        seen = len(writer.written)
        until(lambda: len(writer.written) >= seen + 3)
        writer.stopped.set()
        writer.join(PATIENCE)
        assert put(running.url, "after", png(1), label="live").status_code == 201
        assert {answer.status_code for answer in [*writer.refused, at_once]} == {503}
        slugs = {answer.json()["type"].rpartition(":")[2] for answer in writer.refused}
        assert slugs <= {"writes-wait", "not-ready"}
        assert at_once.json()["type"] == "urn:csd:problem:writes-wait"
        assert all(answer.headers["Retry-After"] for answer in writer.refused)
    assert {*writer.written, "after"} <= project.rows().keys()
    assert "refused" not in project.rows()
    assert project.findings() == ()


@pytest.mark.slow
def test_a_service_whose_store_hangs_can_be_stopped(store, tmp_path):
    project = published(tmp_path / "project", "none", settings={"uri": f"s3://{BUCKET}/gallery"})
    with serving(project) as running:
        writer = Writer(running.url)
        writer.start()
        until(lambda: len(writer.written) >= 3)
        store.hang()
        running.wait_until(lambda answer: answer.json()["trouble"], "the trouble is told")
        writer.stopped.set()
        writer.join(PATIENCE)
        running.process.terminate()
        assert running.process.wait(PATIENCE) == 1
        assert any(line.get("message") == "ended by force" for line in running.log())
        store.come_back()
    assert set(writer.written) <= project.rows().keys()
    with serving(project) as again:
        assert put(again.url, "after", png(1), label="live").status_code == 201
