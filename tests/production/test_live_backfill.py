"""A gallery of mixed provenance is completed by the active model, while people write and processes die."""

import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from multiprocessing import Pipe
from pathlib import Path

import numpy as np
import pytest
from kills import REAPER
from patience import PATIENCE
from projects import Project, content_ids, pixels_of

from csd_core.engine.pace import Pace
from csd_core.engine.processes import LocalEngine
from csd_core.live.images import encode_png
from csd_core.releases.activate import STEPS
from csd_core.releases.backfill.finish import complete, finish
from csd_core.releases.backfill.rows import embed, plan
from csd_core.releases.publish import publish
from csd_core.releases.rollback import rollback
from csd_core.system.errors import ArtifactError, CompatibilityError, CsdError, DataError, ParamsError

HERE = Path(__file__).parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1])])}
ROWS = 40
"""Of a shard."""

PREAMBLE = """
import os, signal, sys
from pathlib import Path
from projects import Project
from csd_core.releases.backfill.finish import complete
from csd_core.releases.backfill.rows import alone, embed, plan
from csd_core.engine.pace import Pace

production = Project(Path(sys.argv[1]), tasks=("t1", "t2", "t3")).production
point = sys.argv[2]
"""
IN_SHARD = """
def pause(rows):  # the shard's vectors are made, and not yet written
    print("paused", flush=True)
    sys.stdin.readline()

with alone(production):
    backfill = plan(production, shard_rows=40)
    for shard in backfill.shards:
        embed(backfill, shard, Pace(report=pause) if shard.number == int(point) else Pace())
"""
AT_STEP = """
def die(step):
    if step == point:
        os.kill(os.getpid(), signal.SIGKILL)
complete(production, why="the rest", shard_rows=40, on_step=die)
"""


def process(script, project, point):
    return subprocess.Popen(
        [sys.executable, "-c", PREAMBLE + script, str(project.root), str(point)],
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def killed_at(step, project):
    child = process(AT_STEP, project, step)
    child.communicate(timeout=PATIENCE)
    assert child.returncode == -signal.SIGKILL


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """Three releases: adapted, then kept; so rows of three models, some of them mapped, and rows that people wrote."""
    project = Project(tmp_path_factory.mktemp("template") / "project")
    project.promote("t1", "none").promote("t2", "adapt").promote("t3", "keep")
    publish(project.production, task="t1")
    project.put(pixels_of(40, 3, seed=1), "live")
    publish(project.production, task="t2")
    publish(project.production, task="t3")
    return project


@pytest.fixture
def project(template, tmp_path):
    return template.copied_to(tmp_path / "project")


def others(project):
    """Ids of the rows that are not the own ones of the active model."""
    model = project.active().record.model
    own = (model, "", model)
    return {
        identity
        for identity, row in project.rows().items()
        if (row["embedded_by"], row["adapters"], row["space"]) != own
    }


def traces(project):
    """What is left of backfills: tags and folders."""
    live = project.production.live
    tags = [tag for table in live.tables() for tag in live.tags(table) if tag.startswith("backfill")]
    folders = project.files.live_backfill("any").parent
    return tags + sorted(path.name for path in folders.glob("*/"))


def finished(project):
    """When each finished shard was written, by its folder."""
    folders = project.files.live_backfill(project.active().name).glob("shard-*")
    return {folder.name: (folder / "shard.json").stat().st_mtime_ns for folder in folders}


def embed_all(backfill):
    for shard in backfill.shards:
        embed(backfill, shard, Pace())


def images_of(project):
    """(rows of the pipeline) id -> image."""
    pool = project.pool("t3")
    return dict(zip(pool.ids.tolist(), pool.images(np.arange(len(pool.ids))), strict=True))


# --- what it does -----------------------------------------------------------------------------------------------------


def test_every_row_becomes_the_own_one_of_the_model_in_force_in_a_new_release(project):
    before, former = project.rows(), project.active()
    assert len(others(project)) == 48 + 48 + 3
    release = complete(project.production, why="the rest", by="olga", shard_rows=ROWS)
    record = release.record
    assert (record.number, record.kind, record.strategy, record.parent) == (4, "backfill", "backfill", 3)
    assert (record.model, record.task, record.after) == (former.record.model, "t3", "t3")
    assert (record.by, record.why, record.left_out, record.rolled_back_to) == ("olga", "the rest", 0, None)
    assert project.active().name == release.name
    assert others(project) == set()
    rows, model = project.rows(), project.model("t3")
    images = images_of(project)
    expected = model(np.array(list(images.values())))
    np.testing.assert_allclose([rows[identity]["vector"] for identity in images], expected, atol=1e-6)
    assert rows.keys() == before.keys()
    for identity, row in rows.items():
        for column in ("label", "task", "split", "origin", "revision", "written_at", "image"):
            assert row[column] == before[identity][column]
    assert project.findings() == ()
    assert traces(project) == []
    entry = project.production.releases.audit.read().entries[-1]
    assert (entry.event, entry.release, entry.by, entry.why) == ("published", release.name, "olga", "the rest")


def test_the_release_keeps_the_evidence_and_no_model_that_no_row_needs(project):
    former = project.active()
    release = complete(project.production, why="the rest")
    for name in ("embedder.onnx", "verdict.json", "check.json", "params.yaml", "adapters/adapters.json"):
        assert (release.folder / name).read_bytes() == (former.folder / name).read_bytes()
    models = [path.stem for path in (release.folder / "lineage").glob("*.onnx")]
    assert models == [release.record.model]


def test_afterwards_there_is_nothing_left_to_backfill_or_to_publish(project):
    complete(project.production, why="the rest")
    log = project.production.releases.audit.path.read_bytes()
    assert complete(project.production, why="again") is None
    assert publish(project.production) is None
    assert project.production.releases.audit.path.read_bytes() == log
    assert traces(project) == []


def test_rollback_returns_to_the_release_before(project):
    live, former = project.production.live, project.active()
    digest = live.digest(former.table, version=former.tag)
    complete(project.production, why="the rest")
    release = rollback(project.production, why="slower")
    assert (release.number, release.record.rolled_back_to, release.record.strategy) == (5, 3, "keep")
    assert live.digest(release.table) == digest
    assert project.findings() == ()
    assert complete(project.production, why="after all").number == 6


def test_one_and_two_processes_make_the_same_rows(template, tmp_path):
    digests = []
    for workers in (1, 2):
        project = template.copied_to(tmp_path / f"with-{workers}")
        release = complete(project.production, why="the rest", engine=LocalEngine(workers=workers), shard_rows=ROWS)
        digests.append(project.production.live.digest(release.table))
    assert digests[0] == digests[1]


def test_a_gallery_that_is_the_models_own_is_left_alone(tmp_path):
    project = Project(tmp_path / "project", tasks=("t1",))
    project.promote("t1", "none")
    publish(project.production)
    assert complete(project.production, why="the rest") is None
    assert traces(project) == []
    assert project.active().number == 1


def test_before_the_first_release_there_is_nothing_to_backfill(tmp_path):
    project = Project(tmp_path / "project", tasks=("t1",))
    with pytest.raises(ArtifactError, match="no release is active, so there is no gallery to backfill"):
        complete(project.production, why="the rest")


@pytest.mark.parametrize("option", [{"max_rows_per_second": 0.0}, {"max_rows_per_second": math.nan}])
def test_impossible_options_are_refused(project, option):
    with pytest.raises(ParamsError, match="it must be"):
        complete(project.production, why="the rest", **option)
    assert project.active().number == 3


def test_references_into_shards_are_read_too(tmp_path):
    project = Project(tmp_path / "project", tasks=("t1", "t2"), settings={"images": "reference"})
    project.promote("t1", "none").promote("t2", "keep")
    publish(project.production)
    complete(project.production, why="the rest")
    assert others(project) == set()
    assert {row["image"] for row in project.rows().values()} == {None}
    assert project.findings() == ()


def test_the_source_of_images_travels_without_the_open_gallery(project):
    backfill = plan(project.production)
    ids = backfill.shards[0].ids[:2]
    read = backfill.embedder.source.images(ids)
    here, there = Pipe()
    here.send(backfill.embedder.source)
    here.send(backfill.embedder.source)
    assert len(there.recv_bytes()) < 1000
    again = there.recv()
    np.testing.assert_array_equal(again.images(ids).images, read.images)
    assert again.mark() == backfill.embedder.source.mark()


def test_only_who_sees_the_gallery_at_its_tag_has_its_mark(project, template, tmp_path):
    source = plan(project.production).embedder.source
    moved = replace(source, uri=str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError):
        moved.mark()
    assert not (tmp_path / "nowhere").exists()  # LanceDB makes what it does not find
    other = template.copied_to(tmp_path / "other")
    assert plan(other.production).embedder.source.mark() != source.mark()
    with pytest.raises(ArtifactError):
        replace(source, tag="backfill-9999").mark()


@pytest.mark.slow
def test_a_backfill_on_a_ray_of_this_machine_makes_the_same_table(project, template, tmp_path):
    complete(project.production, why="the rest", shard_rows=ROWS)
    other = template.copied_to(tmp_path / "other")
    script = (
        "import sys; from pathlib import Path; from projects import Project; "
        "from csd_core.releases.backfill.finish import complete; from csd_core.engine.ray_engine import RayEngine; "
        "production = Project(Path(sys.argv[1]), tasks=('t1', 't2', 't3')).production; "
        f"complete(production, why='the rest', engine=RayEngine(address=None, workers=2), shard_rows={ROWS})"
    )
    path = os.pathsep.join([str(HERE), str(HERE.parent), *sys.path])
    command = [sys.executable, "-c", script, other.root]
    environment = os.environ | {"PYTHONPATH": path}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    digests = [each.production.live.digest(each.active().table) for each in (project, other)]
    assert digests[0] == digests[1]


# --- images that cannot be had ----------------------------------------------------------------------------------------


@pytest.fixture
def lossy(tmp_path):
    """A project in which some rows that were kept have no image, or one that is gone; and their ids."""
    project = Project(tmp_path / "project", tasks=("t1", "t2"))
    project.promote("t1", "none").promote("t2", "keep")
    publish(project.production, task="t1")
    (bare,) = project.put(pixels_of(40, 1, seed=1), "bare", keep_images=False)
    (gone,) = project.put(pixels_of(41, 1, seed=1), "gone", refs=["gone.png"])
    publish(project.production)
    return project, bare, gone


def test_a_row_whose_image_cannot_be_had_stays_as_it_is_and_is_named(lossy, capsys):
    project, bare, gone = lossy
    before = project.rows()
    release = complete(project.production, why="the rest")
    assert others(project) == {bare, gone}
    rows = project.rows()
    assert [rows[each] for each in (bare, gone)] == [before[each] for each in (bare, gone)]
    assert release.record.left_out == 0
    told = capsys.readouterr().out
    assert "2 of the 50 rows that other models made have no image that can be read" in told
    assert told.count(f"{gone}: gone.png: there is no such file") == 2  # before, and after it was tried
    assert "2 rows stay as they were, for their images cannot be had" in told
    assert f"{bare}: has neither an image nor a reference to one" in told
    assert f"{gone}: gone.png: there is no such file" in told
    assert gone in project.search(pixels_of(41, 1, seed=1), k=20).ids
    assert project.findings() == ()


def test_if_no_image_at_all_can_be_read_nothing_changes(lossy):
    project, _, gone = lossy
    complete(project.production, why="the rest")
    before = project.active().name
    with pytest.raises(DataError, match=rf"none of the 1 images could be read, such as that of item {gone}: gone.png"):
        complete(project.production, why="the rest of the rest")
    assert project.active().name == before
    assert traces(project) == []
    (project.root / "gone.png").write_bytes(encode_png(pixels_of(41, 1, seed=1)[0]))
    complete(project.production, why="the image is back")
    assert len(others(project)) == 1


def test_rows_without_any_image_are_no_reason_for_a_backfill(lossy):
    project, bare, gone = lossy
    (project.root / "gone.png").write_bytes(encode_png(pixels_of(41, 1, seed=1)[0]))
    complete(project.production, why="the rest")
    assert others(project) == {bare}
    assert gone not in others(project)
    assert complete(project.production, why="again") is None


# --- people -----------------------------------------------------------------------------------------------------------


def test_what_people_write_and_delete_while_shards_are_embedded_is_kept(project):
    production = project.production
    images = images_of(project)
    known = sorted(images)
    backfill = plan(production, shard_rows=ROWS)
    embed_all(backfill)
    (new,) = project.put(pixels_of(50, 1, seed=1), "new")
    corrected = next(identity for identity in known if identity in others(project))
    project.put(np.array([images[corrected]]), "corrected")
    gone = [identity for identity in known if identity != corrected][:4]
    project.delete(gone)
    back = gone.pop()
    project.put(np.array([images[back]]), "back")
    before = project.rows()
    finish(production, backfill, why="the rest")
    rows = project.rows()
    assert not rows.keys() & set(gone)
    for identity, label in ((new, "new"), (corrected, "corrected"), (back, "back")):
        assert rows[identity] == before[identity]
        assert rows[identity]["label"] == label
    assert others(project) == set()
    assert project.findings() == ()


def test_what_people_write_and_delete_while_the_table_is_built_is_kept(project):
    known = sorted(project.rows())
    steps = ("marked", "built", "carried", "caught up", "verified")
    images = {step: pixels_of(50 + number, 1, seed=1) for number, step in enumerate(steps)}
    left = dict(zip(steps, known, strict=False))

    def meanwhile(step):
        if step in left:
            project.put(images[step], f"during {step}")
            project.delete([left.pop(step)])

    complete(project.production, why="the rest", on_step=meanwhile)
    rows = project.rows()
    assert {f"during {step}" for step in steps} <= {row["label"] for row in rows.values()}
    assert not rows.keys() & set(known[: len(steps)])
    assert others(project) == set()
    assert project.findings() == ()


@pytest.mark.parametrize("planned", [True, False])
def test_an_item_that_is_erased_before_it_is_embedded_or_served_does_not_come_back(project, files_with, planned):
    gone = content_ids(pixels_of(40, 3, seed=1))[0]
    backfill = plan(project.production, shard_rows=ROWS)
    if planned:
        embed_all(backfill)
    project.production.live.erase([gone])
    embed_all(backfill)
    finish(project.production, backfill, why="the rest")
    assert gone not in project.rows()
    assert others(project) == set()
    assert files_with(project.root / "live", gone.encode()) == []


def test_erasing_every_item_leaves_an_empty_gallery(project):
    backfill = plan(project.production)
    embed_all(backfill)
    project.production.live.erase(sorted(project.rows()))
    assert finish(project.production, backfill, why="the rest").record.rows == 0


# --- other releases ---------------------------------------------------------------------------------------------------


def test_a_backfill_that_another_release_has_overtaken_is_refused(project):
    backfill = plan(project.production, shard_rows=ROWS)
    embed_all(backfill)
    rollback(project.production, why="complaints")
    with pytest.raises(CompatibilityError, match=r"planned for release 0003-\w+, and 0004-\w+ is active now"):
        finish(project.production, backfill, why="the rest")
    assert project.active().number == 4


def test_what_was_planned_for_an_earlier_release_is_removed_by_the_next_plan(project):
    embed_all(plan(project.production, shard_rows=ROWS))
    rollback(project.production, why="complaints")
    backfill = plan(project.production, shard_rows=ROWS)
    assert traces(project) == ["backfill-0004"]
    embed_all(backfill)
    assert traces(project) == ["backfill-0004", backfill.release.name]
    finish(project.production, backfill, why="the rest")
    assert traces(project) == []
    assert others(project) == set()


# --- processes that die -----------------------------------------------------------------------------------------------


def test_a_process_killed_in_a_shard_loses_that_shard_only_and_keeps_others_out_until_then(project):
    child = process(IN_SHARD, project, point=1)
    assert child.stdout.readline() == "paused\n"
    with pytest.raises(CsdError, match=rf"the backfill of the live gallery is in use by process {child.pid} "):
        complete(project.production, why="at once", wait=0.1)
    child.kill()
    child.communicate(timeout=PATIENCE)
    kept = finished(project)
    assert kept.keys() == {"shard-00000"}
    first = plan(project.production, shard_rows=ROWS)
    project.put(pixels_of(50, 2, seed=1), "new")
    again = plan(project.production, shard_rows=ROWS)
    assert [shard.digest for shard in again.shards] == [shard.digest for shard in first.shards]
    assert [again.results.whole(shard) is not None for shard in again.shards] == [True, False, False]
    seen = []

    def look(step):
        if step == "begun":
            seen.append(finished(project)["shard-00000"])

    complete(project.production, why="the rest", shard_rows=ROWS, on_step=look)
    assert seen == [kept["shard-00000"]]
    assert others(project) == set()
    assert project.findings() == ()


def test_a_shard_that_is_missing_or_damaged_is_not_served_and_the_next_run_embeds_it_again(project):
    backfill = plan(project.production, shard_rows=ROWS)
    embed_all(backfill)
    vectors = backfill.results.home(backfill.shards[1]) / "vectors.npy"
    content = bytearray(vectors.read_bytes())
    content[-1] ^= 1
    vectors.write_bytes(content)
    with pytest.raises(ArtifactError, match="shard 1 is not finished, or damaged; run the backfill again"):
        finish(project.production, backfill, why="the rest")
    assert project.active().number == 3
    complete(project.production, why="the rest", shard_rows=ROWS)
    assert others(project) == set()


@pytest.mark.parametrize("step", ["logged", "switched"])
def test_a_process_killed_while_it_switches_is_completed_or_done_again(project, step):
    killed_at(step, project)
    switched = step == "switched"
    assert project.active().number == (4 if switched else 3)
    assert project.findings() == ()
    release = complete(project.production, why="the rest", shard_rows=ROWS)
    assert (release and release.number) == (None if switched else 5)
    assert others(project) == set()
    assert traces(project) == []
    assert project.production.releases.audit.read().open is None
    assert project.findings() == ()


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_ending_at_any_step_leaves_the_old_or_the_new_release(project, step):
    with REAPER.ends() as ended:
        complete(
            project.production,
            why="the rest",
            shard_rows=ROWS,
            on_step=lambda each: REAPER.now() if each == step else None,
        )
    assert ended
    switched = STEPS.index(step) >= STEPS.index("switched")
    assert project.active().number == (4 if switched else 3)
    assert project.findings() == ()
    complete(project.production, why="the rest", shard_rows=ROWS)
    assert others(project) == set()
    assert traces(project) == []
    assert project.findings() == ()


# --- the commit -------------------------------------------------------------------------------------------------------


def test_the_release_names_the_commit_of_the_one_it_completes(tmp_path):
    project = Project(tmp_path / "project", tasks=("t1", "t2"))
    project.promote("t1", "none").promote("t2", "keep")
    commit = project.commit()
    publish(project.production)
    assert project.commit() != commit
    with (project.root / "params.yaml").open("a") as file:
        file.write("# not committed\n")
    record = complete(project.production, why="the rest").record
    assert (record.commit, record.uncommitted) == (commit, False)
