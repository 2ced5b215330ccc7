"""`csd run` from an unpacked archive without git, on real digits, with profile tiny."""

import json

import numpy as np
import pytest
from checkout import Project, make_photos

from csd_core.data.shards import load_shard
from csd_core.records.check import CheckReport
from csd_core.records.stages import Champion, ModelRecord, Pending, SeenShards
from csd_core.records.verdict import Ledger, VerdictFile
from csd_core.retrieval.embedder import Embedder, digest_of
from csd_core.retrieval.gallery import Gallery

pytestmark = pytest.mark.slow

TASKS = ("t1", "t2", "t3")


def outcome(lock, stage):
    """Hashes of what a stage read and wrote."""
    return {kind: [(each["path"], each["md5"]) for each in lock[stage].get(kind, [])] for kind in ("deps", "outs")}


def all_ids(project):
    return np.concatenate([load_shard(project.files.shard(task)).ids for task in TASKS])


def test_the_run_ends_with_the_table_and_the_path_of_the_report(finished_run):
    project, printed = finished_run
    assert "report/index.html" in printed
    for task in TASKS:
        assert task in printed
    assert project.files.page.stat().st_size > 10_000
    assert json.loads(project.files.metrics.read_text())


def test_a_second_run_does_nothing_and_says_so(finished_run):
    project, _ = finished_run
    before = project.lock()
    printed = project.csd("run").stdout
    assert printed.startswith("Nothing to do")
    assert "Running stage" not in printed
    assert project.lock() == before


def test_every_seen_item_is_in_the_gallery_in_the_champions_space(finished_run):
    project, _ = finished_run
    gallery = Gallery.load(project.files.gallery("t3"))
    assert sorted(gallery.ids) == sorted(all_ids(project))
    champion = Champion.load(project.files.champion_embedder("t3") / "champion.json")
    assert gallery.query_model == champion.digest
    assert champion.digest == digest_of(project.files.champion_embedder("t3") / "embedder.onnx")
    assert champion.classes == SeenShards.load(project.files.seen("t3")).classes


def test_a_promoted_model_names_its_parent_in_the_onnx_file(finished_run):
    project, _ = finished_run
    first = Champion.load(project.files.champion_embedder("t1") / "champion.json")
    second = Embedder.load(project.files.candidate_embedder("t2"))
    assert second.metadata.parent == first.digest
    assert Embedder.load(project.files.candidate_embedder("t1")).metadata.parent is None


def test_stored_rows_are_what_production_computes(finished_run):
    project, _ = finished_run
    gallery = Gallery.load(project.files.gallery("t1"))
    shard = load_shard(project.files.shard("t1"))
    vectors = Embedder.load(project.files.champion_embedder("t1") / "embedder.onnx")(shard.images)
    order = [int(np.flatnonzero(shard.ids == each)[0]) for each in gallery.ids]
    assert np.einsum("nd,nd->n", vectors[order], gallery.vectors).min() > 1 - 1e-5


@pytest.fixture(scope="module")
def rejected(finished_run, once):
    """The finished project after an operator has rejected the second candidate."""
    before = finished_run[0].lock()

    def make(folder):
        project = finished_run[0].copy(folder / "project")
        project.edit(lambda values: values["decisions"].update(t2="reject"))
        (folder / "printed").write_text(project.csd("run").stdout, encoding="utf-8")

    folder = once("rejected", make)
    return Project(folder / "project"), before, (folder / "printed").read_text(encoding="utf-8")


def test_a_rejection_carries_the_champion_over_and_keeps_the_candidate(rejected):
    project, _, _ = rejected
    files = project.files
    for name in ("champion.json", "embedder.onnx"):
        before, after = (files.champion_embedder(task) / name for task in ("t1", "t2"))
        assert before.read_bytes() == after.read_bytes()
    assert files.candidate_embedder("t2").is_file()
    verdict = VerdictFile.load(files.verdict("t2")).verdict
    assert verdict.outcome == "rejected"
    assert verdict.reasons[0] == "an operator rejected it"
    assert Pending.load(files.pending("t2")).tasks == ("t2",)


def test_the_stage_after_a_rejection_trains_on_both_tasks(rejected):
    project, _, _ = rejected
    record = ModelRecord.load(project.files.candidate_model("t3") / "model.json")
    assert record.trained_on == ("t2", "t3")
    assert record.classes == SeenShards.load(project.files.seen("t3")).classes
    assert CheckReport.load(project.files.check("t3")).pending == ("t2",)
    assert Ledger.load(project.files.ledger("t3")).entries[1].champion_task == "t1"


def test_no_item_is_missing_from_the_gallery_after_a_rejection(rejected):
    project, _, _ = rejected
    between = Gallery.load(project.files.gallery("t2"))
    champion = Champion.load(project.files.champion_embedder("t1") / "champion.json")
    assert set(between.embedded_by.tolist()) == {champion.digest}
    assert set(between.tasks.tolist()) == {"t1", "t2"}
    assert sorted(Gallery.load(project.files.gallery("t3")).ids) == sorted(all_ids(project))


def test_a_rejection_re_runs_promotion_and_what_follows_and_nothing_upstream(rejected):
    project, before, printed = rejected
    after = project.lock()
    upstream = [
        stage for stage in before if not stage.endswith("@t3") and stage not in ("code", "promote@t2", "report")
    ]
    for stage in (*upstream, "split@t3"):
        assert outcome(before, stage) == outcome(after, stage)
        assert f"Running stage '{stage}'" not in printed
    for stage in ("promote@t2", "train@t3", "export@t3", "check@t3", "promote@t3", "report"):
        assert f"Running stage '{stage}'" in printed


def test_another_strategy_for_the_gallery_retrains_nothing(finished_run, tmp_path):
    project = finished_run[0].copy(tmp_path / "project")
    chosen = VerdictFile.load(project.files.verdict("t2")).verdict.strategy
    other = "backfill" if chosen == "keep" else "keep"
    project.edit(lambda values: values["decisions"].update(t2=other))
    printed = project.csd("run").stdout
    assert "Running stage 'promote@t2'" in printed
    assert "Running stage 'train" not in printed
    assert "Running stage 'export" not in printed


def test_a_first_model_that_is_rejected_leaves_its_items_waiting(finished_run, tmp_path):
    project = finished_run[0].copy(tmp_path / "project")
    project.edit(lambda values: values["decisions"].update(t1="reject"))
    project.csd("run")
    assert len(Gallery.load(project.files.gallery("t1"))) == 0
    assert Champion.load(project.files.champion_embedder("t1") / "champion.json").digest is None
    second = ModelRecord.load(project.files.candidate_model("t2") / "model.json")
    assert second.trained_on == ("t1", "t2")
    gallery = Gallery.load(project.files.gallery("t3"))
    assert sorted(gallery.ids) == sorted(all_ids(project))


def test_a_new_task_runs_its_own_stages_alone(finished_run, tmp_path):
    project = finished_run[0].copy(tmp_path / "project")
    shards = {task: digest_of(project.files.shard(task) / "items.parquet") for task in TASKS}
    make_photos(project.root / "data" / "raw" / "letters", ("a", "b"))
    project.csd("tasks", "add", "t4", "--source", "letters", "--path", "data/raw/letters")
    printed = project.csd("run").stdout
    ran = [line.split("'")[1] for line in printed.splitlines() if line.startswith("Running stage")]
    assert sorted(ran) == sorted(
        [
            "code",
            "ingest-folder@letters",
            "split@t4",
            "train@t4",
            "export@t4",
            "adapt@t4",
            "check@t4",
            "promote@t4",
            "report",
        ]
    )
    assert {task: digest_of(project.files.shard(task) / "items.parquet") for task in TASKS} == shards
    assert Champion.load(project.files.champion_embedder("t4") / "champion.json").digest is not None


def test_the_tasks_are_listed_with_their_state(finished_run, tmp_path):
    project = finished_run[0].copy(tmp_path / "project")
    assert project.csd("tasks", "list").stdout.count("promoted") == 3
    project.edit(lambda values: values["gate"].update(min_gain=0.5))
    assert "stale: `csd run` runs it again" in project.csd("tasks", "list").stdout


def test_plots_and_metrics_are_dvcs(finished_run):
    project, _ = finished_run
    assert "metrics.json" in project.run("dvc", "metrics", "show").stdout
    assert "artifacts/t2/candidate/curves" in project.run("dvc", "plots", "show", "--json").stdout
