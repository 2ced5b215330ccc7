"""Replicas of the service on machines that share nothing but an object store."""

import threading
import time

import httpx
import pytest
from object_store import BUCKET, store_of_this_process
from patience import PATIENCE
from projects import Project
from services import PNG, png, published, put, search, serving

from csd_core.releases.publish import publish
from csd_core.releases.rollback import rollback

POLL = 0.5


@pytest.fixture(scope="module")
def store():
    with store_of_this_process() as running:
        yield running


class Searcher(threading.Thread):
    """Searches at all replicas, one after the other, until it is told to stop.

    Attributes:
        answers: (release, its model, that of the query, spaces of the neighbours found) of each answer.
    """

    def __init__(self, urls):
        super().__init__(daemon=True)
        self._urls, self.stopped = urls, threading.Event()
        self.answers, self.failed = [], []

    def run(self):
        while not self.stopped.is_set():
            for url in self._urls:
                answer = search(url, png(0), k=3)
                (self.answers if answer.status_code == 200 else self.failed).append(answer.json())


def replica(root, project):
    """A machine that has params.yaml and nothing else."""
    root.mkdir()
    (root / "params.yaml").write_bytes((project.root / "params.yaml").read_bytes())
    return Project(root, tasks=project.tasks)


@pytest.mark.slow
def test_replicas_follow_every_publish_within_seconds_and_each_answer_is_of_one_release(store, tmp_path):
    settings = {"uri": f"s3://{BUCKET}/gallery", "releases": f"s3://{BUCKET}/releases"}
    project = published(tmp_path / "publisher", "none", settings=settings)
    project.promote("t2", "adapt")
    machines = [replica(tmp_path / name, project) for name in ("a", "b")]
    with serving(machines[0]) as a, serving(machines[1]) as b:
        model = {1: project.active().record.model}
        searcher = Searcher([a.url, b.url])
        searcher.start()
        assert put(a.url, "written-at-a", png(1), label="live").status_code == 201
        model[2] = publish(project.production, task="t2").record.model
        seconds = [follows(service, 2) for service in (a, b)]
        assert put(b.url, "written-at-b", png(1), label="live").status_code == 201
        model[3] = rollback(project.production, why="it was better").record.model
        seconds += [follows(service, 3) for service in (a, b)]
        searcher.stopped.set()
        searcher.join(PATIENCE)
        for service in (a, b):
            listed = httpx.get(f"{service.url}/v1/releases", timeout=PATIENCE).json()
            assert (listed["active"], listed["served"], len(listed["releases"])) == (3, 3, 3)
            found = httpx.post(f"{service.url}/v1/search", content=png(1), headers=PNG, params={"k": 50}, timeout=60)
            assert {"written-at-a", "written-at-b"} <= {each["id"] for each in found.json()["hits"]}
    assert max(seconds) < 20
    assert searcher.failed == []
    assert {answer["release"] for answer in searcher.answers} == {1, 2, 3}
    assert all(answer["model"] == model[answer["release"]] for answer in searcher.answers)
    assert project.findings() == ()


def follows(service, number):
    """Seconds until a replica is ready with a release."""
    start = time.monotonic()
    ready = service.wait_until(lambda answer: answer.json().get("release") == number, f"release {number}")
    assert (ready["status"], ready["active"]) == ("ready", number)
    return time.monotonic() - start
