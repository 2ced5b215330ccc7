"""Recall while a backfill completes a merged release: asked over HTTP, step by step, from the first row to the last."""

import asyncio
import math
import weakref

import httpx
import numpy as np
import pytest
from projects import Project, pixels_of
from services import PNG, serving

from csd_core.engine.pace import Pace
from csd_core.live.images import encode_png
from csd_core.releases.backfill.finish import complete, finish
from csd_core.releases.backfill.rows import alone, embed, plan
from csd_core.releases.publish import publish
from csd_core.serving.release_manager import ReleaseManager
from csd_core.serving.telemetry import Metrics

CLASSES = ("t1-a", "t1-b", "t2-a", "t2-b")
SHARDS = 10
QUERIES = 20
"""Of each class."""
Z = 1.645
"""One-sided 95 %."""


def merged(root, images=50):
    """Releases of t1 and of t2 under merge; t1's rows make up the backfill."""
    project = Project(root, tasks=("t1", "t2"), images=images)
    project.promote("t1", "none", dimension=16)
    publish(project.production, task="t1")
    project.promote("t2", "merge", dimension=24, drift=3.0)
    publish(project.production)
    return project


def labelled_queries():
    """PNG files that are hard to tell apart, half one class and nearly half the next, and their labels."""
    rng = np.random.default_rng(0)
    files, labels = [], []
    for kind, label in enumerate(CLASSES):
        own, next_class = (pixels_of(each, QUERIES, seed=11).astype(float) for each in (kind, (kind + 1) % 4))
        noise = rng.normal(0, 40, own.shape)
        mixed = np.clip(0.6 * own + 0.4 * next_class + noise, 0, 255).astype(np.uint8)
        files += [encode_png(image) for image in mixed]
        labels += [label] * QUERIES
    return files, np.array(labels)


class Asker:
    """Asks a service all queries, and remembers what it answered."""

    def __init__(self, client):
        self._client = client
        self._files, self._labels = labelled_queries()
        self.answers = []

    def ask(self):
        """The hits at rank 1 (Q,), each right or wrong, and the releases and models of the answers."""
        found = []
        for file in self._files:
            answer = self._client.post("/v1/search", content=file, params={"k": 1}, headers=PNG)
            assert answer.status_code == 200, answer.text
            found.append(answer.json())
        hits = [each["hits"][0] for each in found]
        self.answers.append([(hit["id"], hit["score"]) for hit in hits])
        right = np.array([hit["label"] for hit in hits]) == self._labels
        return right, {each["release"] for each in found}, {tuple(each["query_models"]) for each in found}


@pytest.mark.slow
def test_recall_is_that_of_the_start_at_every_step_of_a_backfill_and_not_below_it_at_the_end(tmp_path):
    project = merged(tmp_path / "project")
    production = project.production
    old, new = (project.model(task).digest for task in ("t1", "t2"))
    with serving(project) as service, httpx.Client(base_url=service.url, timeout=60) as client:
        asker = Asker(client)
        start, releases, models = asker.ask()
        assert (releases, models) == ({2}, {(new, old)})
        assert 0.5 < start.mean() < 0.98  # or nothing could be lost or gained
        with alone(production):
            first = plan(production, shard_rows=100 // SHARDS)
            assert len(first.shards) == SHARDS
            for shard in first.shards[: SHARDS // 2]:
                embed(first, shard, Pace())
                asker.ask()
        with alone(production):  # the first run ended here; the second one keeps what is done
            second = plan(production, shard_rows=100 // SHARDS)
            assert [second.results.whole(shard) is not None for shard in second.shards] == [True] * 5 + [False] * 5
            for shard in second.shards[SHARDS // 2 :]:
                embed(second, shard, Pace())
                asker.ask()
            late = ("built", "verified", "locked")
            finish(production, second, why="the rest", on_step=lambda step: step in late and asker.ask())
        assert len(asker.answers) == 1 + SHARDS + len(late)
        assert all(answer == asker.answers[0] for answer in asker.answers)  # each id and score, so recall too
        service.serves(3)
        end, releases, models = asker.ask()
        assert (releases, models) == ({3}, {(new,)})
        lost, gained = int((start & ~end).sum()), int((end & ~start).sum())
        assert lost - gained <= Z * math.sqrt(lost + gained)
    release = project.active()
    assert (release.older_models, release.record.scoring) == ((), ())
    assert {row["embedded_by"] for row in project.rows().values()} == {new}
    assert project.findings() == ()


def test_models_and_rows_of_the_merged_release_leave_memory_with_its_last_request(tmp_path):
    project = merged(tmp_path / "project", images=8)
    production = project.production

    async def scenario():
        manager = ReleaseManager(
            releases=production.releases, live=production.live, params=production.params, threads=1, metrics=Metrics()
        )
        await manager.look()
        async with manager.lease() as served:
            assert len(served.queries) == 2
            vectors = (weakref.ref(part.vectors) for part in served.snapshot.rows.parts)
            models = (weakref.ref(query.embed) for query in served.queries)
            held = [weakref.ref(served), *vectors, *models]
            complete(production, why="the rest")
            await manager.look()
            assert len(manager.served.queries) == 1
            assert all(each() is not None for each in held)  # this request is still answered from it
        del served
        left = [each() for each in held]
        manager.close()
        return left

    assert asyncio.run(scenario()) == [None] * 5
