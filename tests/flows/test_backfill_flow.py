"""The flow `backfill` on a small project, against a server of its own."""

import asyncio
import sys
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from patience import PATIENCE
from prefect import flow
from prefect.artifacts import Artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

from csd_core.engine.pace import Pace
from csd_core.live.rows import LiveItems, StoredImages
from csd_core.releases.backfill.rows import embed, plan
from csd_core.releases.publish import publish
from csd_core.report.review import escaped
from csd_core.system.errors import DataError
from flows import backfill as module
from flows.backfill import Backfill, BackfillProgress, backfill

sys.path.append(str(Path(__file__).parents[1] / "production"))
from projects import Project  # the folder is no package

pytestmark = [pytest.mark.usefixtures("prefect_harness")]

IMAGES = 1100
"""Of a class; two classes are more than one shard."""
ROWS = 2 * IMAGES


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A project that serves rows of two models; those of the older one make two shards."""
    project = Project(tmp_path_factory.mktemp("template") / "project", tasks=("t1", "t2"), images=IMAGES)
    project.promote("t1", "none").promote("t2", "keep")
    (project.root / "dvc.yaml").write_text("stages: {}\n")
    publish(project.production)
    return project


@pytest.fixture
def project(template, tmp_path, monkeypatch):
    """A copy of it, as the folder a deployment runs in."""
    project = template.copied_to(tmp_path / "project")
    monkeypatch.chdir(project.root)
    return project


def run(**settings):
    """The final state of a run."""
    return backfill(Backfill(**settings), return_state=True)


def task_states(flow_run_id):
    """Name of each task run -> name of its state."""
    with get_client(sync_client=True) as client:
        runs = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id])))
    return {each.name: each.state.name for each in runs}


def artifact(key):
    """The newest of its key."""
    return asyncio.run(Artifact.aget(key))


@flow
def making(rows, clock):
    """A progress artifact belongs to a run."""
    return BackfillProgress(rows, clock=clock)


def models(project):
    return {row["embedded_by"] for row in project.rows().values()}


@pytest.mark.slow
def test_a_run_puts_a_gallery_of_the_model_alone_in_force_and_shows_how_it_went(project):
    state = run(why="the rest", by="olga", workers=2)
    release = project.active()
    assert (state.type.value, state.message) == ("COMPLETED", f"Active: {release.name}, {2 * ROWS:,} rows")
    assert (release.record.kind, release.record.why, release.record.by) == ("backfill", "the rest", "olga")
    assert models(project) == {release.record.model}
    assert project.findings() == ()
    assert task_states(state.state_details.flow_run_id) == {"shard 0": "Completed", "shard 1": "Completed"}
    progress = artifact("backfill-progress")
    assert progress.data == 100.0
    assert progress.description.startswith("2,200 of 2,200 rows · ")
    assert progress.description.endswith(" rows/s · about 0 s left")
    told = artifact("backfill").data
    assert f"Release **{release.name}** is active" in told
    assert "2,200 rows were re-embedded" in told
    again = run()
    assert (again.name, again.message) == ("NothingToDo", "every row that has an image is the own one of the model")


def test_a_run_goes_on_where_a_killed_one_stopped(project):
    work = plan(project.production)
    embed(work, work.shards[0], Pace())
    state = run()
    assert state.is_completed()
    assert task_states(state.state_details.flow_run_id) == {"shard 0": "Cached", "shard 1": "Completed"}
    assert models(project) == {project.active().record.model}


def test_an_error_of_csd_fails_the_run_with_its_one_line_and_ends_the_other_shards(project, monkeypatch):
    tried, both = [], threading.Barrier(2)

    def failing(work, shard, pace):
        tried.append(shard.number)
        with suppress(threading.BrokenBarrierError):  # the last call is that of a flow with one worker
            both.wait(timeout=PATIENCE if len(tried) < 3 else 0)
        if shard.number == 0:
            raise DataError("the store of images is shut")
        return embed(work, shard, pace)

    monkeypatch.setattr(module, "embed", failing)
    state = run(workers=2, max_rows_per_second=16)
    assert (state.type.value, state.message) == ("FAILED", "the store of images is shut")
    assert sorted(tried) == [0, 1]  # each once
    assert task_states(state.state_details.flow_run_id) == {"shard 0": "Failed", "shard 1": "Failed"}
    assert not list(project.files.live_backfill(project.active().name).glob("shard-*"))
    assert project.active().number == 1
    with pytest.raises(DataError, match="^the store of images is shut$"):
        backfill()


def test_a_disk_that_does_not_answer_at_once_is_tried_again(project, monkeypatch):
    failures = [OSError("stale file handle")]

    def failing(work, shard, pace):
        if failures:
            raise failures.pop()
        return embed(work, shard, pace)

    monkeypatch.setattr(module, "embed", failing)
    monkeypatch.setattr(module.embed_shard, "retry_delay_seconds", [0.0, 0.0])
    assert run().is_completed()
    assert failures == []
    assert models(project) == {project.active().record.model}


def test_images_that_cannot_be_read_are_named_in_the_artifact(project):
    live, table = project.production.live, project.active().table
    (identity,) = plan(project.production).shards[0].ids[:1].tolist()
    model = project.model("t1")
    live.upsert(
        table,
        LiveItems(
            ids=np.array([identity]),
            labels=np.array(["gone"]),
            vectors=model(np.array(project.pool("t1").images(np.array([0])))),
            embedded_by=model.digest,
            images=StoredImages([None], ["gone.png"]),
        ),
    )
    live.untag(table, "backfill-0001")
    assert run().is_completed()
    told = artifact("backfill").data
    assert "2,199 rows were re-embedded" in told
    assert f"- {identity}: {escaped('gone.png: there is no such file')}" in told


def test_a_folder_that_is_no_project_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    state = run()
    assert state.is_failed()
    assert "holds no params.yaml" in state.message
    assert "\n" not in state.message


def test_progress_names_rows_rate_and_what_is_left_without_what_an_earlier_run_did():
    seconds = [100.0]
    progress = making(56_000, lambda: seconds[-1])
    progress.keep(6_000)
    seconds.append(110.0)
    progress.advance(5_000)
    shown = artifact("backfill-progress")
    assert shown.description == "11,000 of 56,000 rows · 500 rows/s · about 90 s left"
    assert shown.data == pytest.approx(100 * 11 / 56)


def test_progress_is_shown_once_a_second_at_most(monkeypatch):
    seconds, updates = [100.0], []
    progress = making(1_000, lambda: seconds[-1])
    monkeypatch.setattr(progress, "show", lambda: updates.append(seconds[-1]))
    for now in (100.0, 100.9, 101.0, 101.1, 101.9, 102.5, 102.6):
        seconds.append(now)
        progress.advance(1)
    assert updates == [101.0, 102.5]


def test_the_form_has_a_title_and_help_for_every_field():
    schema = Backfill.model_json_schema()
    assert all({"title", "description"} <= field.keys() for field in schema["properties"].values())
    assert "required" not in schema
