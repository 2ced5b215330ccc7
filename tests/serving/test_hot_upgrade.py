"""A release becomes active while clients search and write: nothing fails, nothing is mixed, nothing is lost."""

import threading
import time

import httpx
import pytest
from services import PNG, address, pixels_of, png, published, put, search, serving

from csd_core.releases.publish import publish
from csd_core.releases.rollback import rollback
from csd_core.retrieval.gallery import Gallery

pytestmark = pytest.mark.slow


class Load:
    """Clients that search and write until told to stop, and what they saw."""

    def __init__(self, url, *, searchers=3, writers=2):
        self.url = url
        self.problems, self.answers, self.written, self.deleted = [], [], {}, set()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._search, args=(number,)) for number in range(searchers)]
        self._threads += [threading.Thread(target=self._write, args=(number,)) for number in range(writers)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _search(self, number):
        with httpx.Client(base_url=self.url, timeout=60) as client:
            turn = number
            while not self._stop.is_set():
                turn += 1
                self._once(self._judge, client, turn)

    def _judge(self, client, turn):
        answer = client.post("/v1/search", content=png(turn % 4, seed=turn % 50), params={"k": 8}, headers=PNG)
        found = answer.json()
        if answer.status_code != 200 or not found["hits"]:
            self.problems.append((answer.status_code, answer.text[:300]))
            return
        # every release of these tests was made by a backfill, so that all its rows are its own model's
        models = {hit["embedded_by"] for hit in found["hits"]} | {hit["space"] for hit in found["hits"]}
        if models != {found["model"]} or answer.headers["X-CSD-Release"] != str(found["release"]):
            self.problems.append(("mixed", found))
        self.answers.append((found["release"], found["model"]))

    def _write(self, number):
        with httpx.Client(base_url=self.url, timeout=60) as client:
            turn = 0
            while not self._stop.is_set():
                turn += 1
                identity = f"w{number}/{turn}"
                self._once(self._put, client, identity, turn)
                if turn % 5 == 0:
                    self._once(self._delete, client, f"w{number}/{turn - 2}")

    def _put(self, client, identity, turn):
        image = png(turn % 4, seed=turn)
        answer = client.put(address(self.url, identity), content=image, params={"label": "live"}, headers=PNG)
        if answer.status_code not in (200, 201):
            self.problems.append((answer.status_code, answer.text[:300]))
        else:
            self.written[identity] = turn

    def _delete(self, client, identity):
        answer = client.delete(address(self.url, identity))
        if answer.status_code != 204:
            self.problems.append((answer.status_code, answer.text[:300]))
        else:
            self.deleted.add(identity)

    def _once(self, call, *arguments):
        try:
            call(*arguments)
        except httpx.HTTPError as error:
            self.problems.append(("transport", repr(error)))


def upgrades_under_load(project, running, *, searchers=3, writers=2, more=0):
    """Publish twice, roll back 1 + `more` times, while clients search and write; returns what they saw."""
    with Load(running.url, searchers=searchers, writers=writers) as load:
        time.sleep(1)
        publish(project.production, task="t2", why="new classes")
        running.serves(2)
        publish(project.production, task="t3", why="new classes")
        rollback(project.production, why="complaints")
        for _ in range(more):
            time.sleep(0.3)
            rollback(project.production, why="complaints")
        running.serves(project.active().number)
        time.sleep(2)  # rows that were written last
    return load


def judge(project, running, load):
    assert load.problems == []
    releases = {each.number: each.record.model for each in project.production.releases.all()}
    assert all(releases[number] == model for number, model in load.answers)
    rows = project.rows()
    expected = load.written.keys() - load.deleted
    assert expected - rows.keys() == set(), "written, acknowledged and lost"
    assert load.deleted & rows.keys() == set(), "deleted and come back"
    model = project.active().record.model
    assert {row["space"] for row in rows.values()} == {model}
    assert search(running.url, png(0)).json()["release"] == project.active().number
    assert len(load.written) > 10
    assert project.findings() == ()


def a_project(root):
    project = published(root, "none")
    project.promote("t2", "backfill")
    project.promote("t3", "backfill")
    return project


def test_an_upgrade_and_a_rollback_under_load_drop_nothing_and_mix_nothing(tmp_path):
    project = a_project(tmp_path / "project")
    with serving(project) as running:
        load = upgrades_under_load(project, running, searchers=1, writers=1)
        assert len({number for number, _ in load.answers}) >= 3
        judge(project, running, load)


def test_a_dozen_upgrades_and_rollbacks_under_load_with_two_workers_drop_nothing(tmp_path):
    project = a_project(tmp_path / "project")
    with serving(project, "--workers", "2") as running:
        load = upgrades_under_load(project, running, more=9)
        judge(project, running, load)


def test_items_written_in_the_last_moment_of_a_switch_are_found_after_it(tmp_path):
    project = a_project(tmp_path / "project")
    with serving(project) as running:
        publishing = threading.Thread(target=publish, args=(project.production,), kwargs={"task": "t2"})
        publishing.start()
        written = {}
        while publishing.is_alive():
            turn = len(written)
            answer = put(running.url, f"late-{turn}", png(8, seed=turn), label="late")
            assert answer.status_code == 201, answer.text
            written[f"late-{turn}"] = answer.json()["release"]
        publishing.join()
        running.serves(2)
        running.wait_until(lambda _: late(running.url) == written.keys(), "all that was written in time is found")


def late(url):
    """Items of that class that are found."""
    return {hit["id"] for hit in search(url, png(8, seed=0), k=100, label="late").json()["hits"]}


def test_a_release_that_was_damaged_is_refused_and_the_old_one_stays(tmp_path):
    project = published(tmp_path / "project", "none", "backfill")
    releases = project.root / "releases"
    first, second = sorted(path.name for path in releases.iterdir() if path.name[:4].isdigit())
    pointer = releases / "current"
    pointer.write_text(first + "\n")
    model = releases / second / "embedder.onnx"
    whole = model.read_bytes()
    with serving(project) as running:
        running.serves(1)
        model.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        pointer.write_text(second + "\n")
        state = running.wait_until(lambda answer: answer.json()["refused"], "a refusal")
        assert (state["release"], state["status"]) == (1, "degraded")
        assert state["refused"]["release"] == second
        assert "embedder.onnx" in state["refused"]["reason"]
        assert any(line.get("message") == "release refused" for line in running.log())
        answer = search(running.url, png(0))
        assert (answer.status_code, answer.json()["release"]) == (200, 1)
        refused = put(running.url, "a", png(0), label="x")
        assert (refused.status_code, refused.json()["type"]) == (503, "urn:csd:problem:writes-wait")
        assert "Retry-After" in refused.headers
        model.write_bytes(whole)
        running.serves(2)
        assert running.ready().json()["status"] == "ready"


def test_rows_of_another_dimension_are_refused(tmp_path):
    project = published(tmp_path / "project", "none", "backfill")
    releases = project.root / "releases"
    first, second = sorted(path.name for path in releases.iterdir() if path.name[:4].isdigit())
    (releases / "current").write_text(first + "\n")
    live = project.production.live
    live.drop(f"gallery-{second}")
    small = Gallery.load(project.files.gallery("t1"))
    wrong = Gallery.embedded(
        ids=small.ids,
        labels=small.labels,
        tasks=small.tasks,
        splits=small.splits,
        vectors=small.vectors[:, :4] / (small.vectors[:, :4] ** 2).sum(axis=1, keepdims=True) ** 0.5,
        model=small.query_model,
    )
    live.build(f"gallery-{second}", wrong, origin="pipeline", images=None)
    live.tag(f"gallery-{second}", "release-0002")
    with serving(project) as running:
        (releases / "current").write_text(second + "\n")
        state = running.wait_until(lambda answer: answer.json()["refused"], "a refusal")
        assert "dimensions" in state["refused"]["reason"]
        assert (state["release"], state["status"]) == (1, "degraded")


def test_a_service_that_starts_before_the_first_publish_waits_for_it(tmp_path):
    project = published(tmp_path / "project")
    project.promote("t1", "none")
    with serving(project, ready=False) as running:
        answer = running.ready()
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:csd:problem:not-ready")
        assert "csd publish" in answer.json()["detail"]
        assert httpx.get(f"{running.url}/healthz", timeout=60).status_code == 200
        publish(project.production, task="t1")
        running.serves(1)


def test_several_workers_agree_within_seconds(tmp_path):
    project = a_project(tmp_path / "project")
    with serving(project, "--workers", "2") as running:
        publish(project.production, task="t2")
        running.serves(2)
        running.wait_until(lambda _: {running.ready().json()["release"] for _ in range(20)} == {2}, "both at release 2")
        images = pixels_of(9, 1, seed=3)
        (identity,) = project.put(images, "new")
        running.wait_until(lambda _: nearest(running.url, png(9, seed=3)) == {identity}, "both find the new item")


def nearest(url, image):
    """What twenty searches, each with a connection of its own, find first."""
    return {search(url, image, k=1).json()["hits"][0]["id"] for _ in range(20)}
