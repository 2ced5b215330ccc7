import numpy as np
import pytest
from projects import Project, content_ids, pixels_of

from csd_core.live.reader import kinds_of
from csd_core.records.verdict import Ledger
from csd_core.releases.activate import STEPS
from csd_core.releases.publish import publish
from csd_core.releases.rollback import rollback
from csd_core.retrieval.adapter import Adapter
from csd_core.retrieval.embedder import digest_of
from csd_core.retrieval.gallery import Gallery
from csd_core.retrieval.lineage import Lineage
from csd_core.system.errors import ArtifactError, CompatibilityError, CsdError


@pytest.fixture(scope="module")
def templates(tmp_path_factory):
    made = {}

    def make(strategy, dimension):
        if (strategy, dimension) not in made:
            project = Project(tmp_path_factory.mktemp("template") / "project", tasks=("t1", "t2"))
            project.promote("t1", "none").promote("t2", strategy, dimension=dimension)
            publish(project.production, task="t1", why="the first")
            made[strategy, dimension] = project
        return made[strategy, dimension]

    return make


@pytest.fixture
def project_under(templates, tmp_path):
    """(strategy) -> a project with two tasks, the first active, the second promoted under the strategy."""

    def make(strategy, *, dimension=16):
        return templates(strategy, dimension).copied_to(tmp_path / "project")

    return make


def near(vectors, others):
    return np.allclose(vectors, others, atol=1e-5)


def test_the_first_publish_serves_the_pipelines_gallery_with_images_and_evidence(project_under):
    project = project_under("keep")
    release, gallery = project.active(), Gallery.load(project.files.gallery("t1"))
    rows = project.rows()
    assert rows.keys() == set(gallery.ids.tolist())
    assert release.record.rows == len(gallery)
    assert (release.record.task, release.record.strategy, release.record.parent) == ("t1", "none", None)
    assert {row["origin"] for row in rows.values()} == {"pipeline"}
    fetched = project.production.live.images_of(release.table, gallery.ids[:5], form=project.model("t1").metadata.form)
    assert content_ids(fetched.images).tolist() == gallery.ids[:5].tolist()
    assert digest_of(release.embedder) == release.record.model
    for name in ("verdict.json", "check.json"):
        assert (release.folder / name).read_bytes() == (project.root / "artifacts" / "t1" / name).read_bytes()
    assert (release.folder / "params.yaml").read_bytes() == (project.root / "params.yaml").read_bytes()
    assert project.findings() == ()


def test_publishing_what_is_in_force_changes_nothing(project_under):
    project = project_under("keep")
    before = project.production.releases.audit.path.read_bytes()
    assert publish(project.production, task="t1") is None
    assert project.production.releases.audit.path.read_bytes() == before
    assert len(project.production.releases.all()) == 1


def test_steps_are_told_in_their_order(project_under):
    project, told = project_under("keep"), []
    publish(project.production, on_step=told.append)
    assert tuple(told) == STEPS


def test_keep_leaves_live_rows_as_they_are_and_lets_the_new_model_search_them(project_under):
    project = project_under("keep")
    (identity,) = project.put(pixels_of(40, 1, seed=1), "live")
    before = project.rows()[identity]
    release = publish(project.production)
    after = project.rows()[identity]
    assert near(before["vector"], after["vector"])
    assert before["revision"] == after["revision"]
    assert after["space"] in release.searchable_spaces
    assert project.search(pixels_of(40, 1, seed=1), k=1).ids.tolist() == [[identity]]
    assert project.findings() == ()


@pytest.mark.parametrize("dimension", [16, 20])
def test_adapt_maps_live_rows_by_the_adapter_of_their_provenance(project_under, dimension):
    project = project_under("adapt", dimension=dimension)
    (identity,) = project.put(pixels_of(40, 1, seed=1), "live")
    before = project.rows()[identity]
    release = publish(project.production)
    after = project.rows()[identity]
    (adapter,) = release.record.adapters
    expected = Adapter.load(release.folder / "lineage" / f"{adapter}.onnx")(np.array([before["vector"]], np.float32))
    assert after["adapters"] == adapter
    assert near(after["vector"], expected[0])
    assert {len(row["vector"]) for row in project.rows().values()} == {dimension}
    assert after["space"] == release.record.model
    assert project.findings() == ()


@pytest.mark.parametrize("strategy", ["backfill", "partial"])
def test_other_strategies_embed_live_rows_anew_from_their_images(project_under, strategy):
    project = project_under(strategy)
    image = pixels_of(40, 1, seed=1)
    (identity,) = project.put(image, "live")
    release = publish(project.production)
    row = project.rows()[identity]
    assert near(row["vector"], project.model("t2")(image)[0])
    assert (row["embedded_by"], row["adapters"], row["origin"]) == (release.record.model, "", "live")


def test_a_change_of_dimension_embeds_everything_anew(project_under):
    project = project_under("backfill", dimension=20)
    (identity,) = project.put(pixels_of(40, 1, seed=1), "live")
    release = publish(project.production)
    assert release.record.dimension == 20
    assert {len(row["vector"]) for row in project.rows().values()} == {20}
    assert project.search(pixels_of(40, 1, seed=1), k=1).ids.tolist() == [[identity]]


def test_live_rows_whose_image_cannot_be_had_are_listed_and_left_out(project_under, capsys):
    project = project_under("backfill")
    (good,) = project.put(pixels_of(40, 1, seed=1), "live")
    (bad,) = project.put(pixels_of(41, 1, seed=1), "live", refs=["gone.png"])
    release = publish(project.production)
    assert release.record.left_out == 1
    assert good in project.rows()
    assert bad not in project.rows()
    told = capsys.readouterr().out
    assert "1 live rows were left out" in told
    assert f"{bad}: gone.png: there is no such file" in told
    assert project.findings() == ()


def test_if_no_live_row_can_be_upgraded_the_publish_is_refused_and_nothing_changes(project_under):
    project = project_under("backfill")
    project.put(pixels_of(40, 2, seed=1), "live", keep_images=False)
    tables = project.production.live.tables()
    with pytest.raises(CsdError, match=r"none of the 2 live rows can be upgraded.*neither an image nor a reference"):
        publish(project.production)
    assert project.active().number == 1
    assert project.production.live.tables() == tables
    assert project.production.releases.audit.read().entries[-1].event == "abandoned"
    assert project.findings() == ()


def test_a_live_row_without_an_image_stays_where_the_model_may_search_it(project_under):
    project = project_under("keep")
    (identity,) = project.put(pixels_of(40, 1, seed=1), "live", keep_images=False)
    release = publish(project.production)
    assert identity in project.rows()
    assert release.record.left_out == 0


def test_a_live_row_wins_over_the_pipelines_row_of_the_same_item(project_under):
    project = project_under("keep")
    image = project.pool("t1").images(np.array([0]))
    (identity,) = project.put(image, "corrected")
    publish(project.production)
    row = project.rows()[identity]
    assert (row["label"], row["origin"]) == ("corrected", "live")
    assert row["embedded_by"] == project.model("t2").digest
    assert near(row["vector"], project.model("t2")(image)[0])


def test_deleted_items_of_the_pipeline_do_not_come_back(project_under):
    project = project_under("keep")
    gone = sorted(project.rows())[:3]
    project.delete(gone)
    publish(project.production)
    assert not project.rows().keys() & set(gone)
    assert len(project.rows()) == len(Gallery.load(project.files.gallery("t2"))) - 3


def test_a_deleted_item_that_was_written_again_is_served(project_under):
    project = project_under("backfill")
    image = pixels_of(40, 1, seed=1)
    (identity,) = project.put(image, "live")
    project.delete([identity])
    project.put(image, "again")
    publish(project.production)
    assert project.rows()[identity]["label"] == "again"


def test_the_lineage_of_a_release_embeds_images_as_each_of_its_rows(project_under):
    project = project_under("adapt")
    project.put(pixels_of(40, 1, seed=1), "live")
    release = publish(project.production)
    lineage = Lineage.load(release.folder / "lineage")
    kinds = project.production.live.read(release.table, release.tag, kinds_of)
    assert len(kinds) > 1
    assert all(lineage.knows(provenance) for provenance, _ in kinds)


def test_rows_written_and_deleted_while_the_table_is_built_survive(project_under):
    project = project_under("backfill")
    known = sorted(project.rows())
    steps = ("marked", "built", "carried", "caught up", "tagged", "verified")
    images = {step: pixels_of(50 + number, 1, seed=1) for number, step in enumerate(steps)}
    left = dict(zip(steps, known, strict=False))
    told = []

    def meanwhile(step):
        told.append(step)
        if step in left:
            project.put(images[step], f"during {step}")
            project.delete([left.pop(step)])

    publish(project.production, on_step=meanwhile)
    assert told.count("verified") == 2  # once more, when nobody could write
    rows = project.rows()
    for step, image in images.items():
        row = rows[content_ids(image)[0]]
        assert row["label"] == f"during {step}"
        assert near(row["vector"], project.model("t2")(image)[0])
    assert not rows.keys() & set(known[: len(steps)])
    assert project.findings() == ()


def test_an_item_deleted_before_it_is_served_does_not_come_into_force(project_under):
    project = project_under("keep")
    gallery = Gallery.load(project.files.gallery("t2"))
    (new,) = gallery.ids[gallery.tasks == "t2"][:1].tolist()
    left = [new]

    def meanwhile(step):
        if step == "verified" and left:
            project.delete([left.pop()])

    publish(project.production, on_step=meanwhile)
    assert new not in project.rows()


def test_a_row_written_and_deleted_again_while_the_table_is_built_stays_deleted(project_under):
    project = project_under("backfill")
    image = pixels_of(50, 1, seed=1)

    def meanwhile(step):
        if step == "built":
            project.put(image, "live")
        if step == "carried":
            project.delete(content_ids(image))

    publish(project.production, on_step=meanwhile)
    assert content_ids(image)[0] not in project.rows()
    rollback(project.production, why="complaints")
    assert content_ids(image)[0] not in project.rows()


def test_a_carried_row_that_is_written_again_without_its_image_does_not_stay_in_its_former_state(project_under):
    project = project_under("backfill")
    project.put(pixels_of(50, 1, seed=1), "another")
    image = pixels_of(51, 1, seed=1)
    (identity,) = project.put(image, "before")
    left = ["gone.png"]

    def meanwhile(step):
        if step == "carried":
            project.put(image, "after", refs=[left.pop()])

    release = publish(project.production, on_step=meanwhile)
    assert identity not in project.rows()
    assert release.record.left_out == 1
    assert project.findings() == ()


def test_a_row_whose_image_comes_back_meanwhile_is_not_left_out(project_under):
    project = project_under("backfill")
    project.put(pixels_of(50, 1, seed=1), "another")
    image = pixels_of(51, 1, seed=1)
    (identity,) = project.put(image, "before", refs=["gone.png"])

    def meanwhile(step):
        if step == "carried":
            project.put(image, "after")

    release = publish(project.production, on_step=meanwhile)
    assert project.rows()[identity]["label"] == "after"
    assert release.record.left_out == 0


def test_an_item_erased_while_the_table_is_built_is_not_in_it(project_under, files_with):
    project = project_under("backfill")
    (identity,) = project.put(pixels_of(50, 1, seed=1), "live")

    left = [identity]

    def meanwhile(step):
        if step == "caught up" and left:
            project.production.live.erase([left.pop()])

    publish(project.production, on_step=meanwhile)
    assert identity not in project.rows()
    assert files_with(project.root / "live", identity.encode()) == []


def test_a_rejected_tasks_items_come_into_force_by_refreshing_the_gallery(tmp_path):
    project = Project(tmp_path / "project", tasks=("t1", "t2"))
    project.promote("t1", "none")
    publish(project.production, task="t1")
    (identity,) = project.put(pixels_of(40, 1, seed=1), "live")
    project.reject("t2")
    release = publish(project.production)
    assert (release.record.kind, release.record.model) == ("refresh", project.model("t1").digest)
    assert (release.record.task, release.record.after) == ("t1", "t2")
    assert {row["task"] for row in project.rows().values()} == {"t1", "t2", "live"}
    assert identity in project.rows()
    assert project.findings() == ()


def test_a_champion_whose_parent_is_not_in_force_is_refused_and_told_what_to_publish_first(tmp_path):
    project = Project(tmp_path / "project")
    project.promote("t1", "none").promote("t2", "keep").promote("t3", "adapt")
    publish(project.production, task="t1")
    with pytest.raises(CompatibilityError, match=r"publish the one between first \(csd publish --task t2\)"):
        publish(project.production)
    assert [release.number for release in project.production.releases.all()] == [1]
    assert len(project.production.releases.audit.read().entries) == 3
    publish(project.production, task="t2")
    assert publish(project.production).number == 3


def test_an_older_champion_is_refused_and_rollback_is_named(project_under):
    project = project_under("keep")
    publish(project.production)
    with pytest.raises(CompatibilityError, match=r"does not descend from its model.*csd rollback"):
        publish(project.production, task="t1")


def test_the_first_publish_may_take_a_later_champion(tmp_path):
    project = Project(tmp_path / "project", tasks=("t1", "t2"))
    project.promote("t1", "none").promote("t2", "adapt")
    release = publish(project.production)
    assert (release.number, release.record.task, release.record.parent) == (1, "t2", None)
    assert release.record.parent_model == project.model("t1").digest
    assert project.findings() == ()


def test_artefacts_that_do_not_belong_together_are_refused(project_under):
    project = project_under("keep")
    Gallery.load(project.files.gallery("t1")).save(project.files.gallery("t2"))
    with pytest.raises(ArtifactError, match=r"artifacts/t2: the gallery is another than the ledger's; run `csd run`"):
        publish(project.production)
    assert project.active().number == 1


def test_another_model_than_the_champions_record_is_refused(project_under):
    project = project_under("keep")
    target = project.files.champion_embedder("t2") / "embedder.onnx"
    target.write_bytes((project.files.champion_embedder("t1") / "embedder.onnx").read_bytes())
    with pytest.raises(ArtifactError, match=r"artifacts/t2: embedder.onnx is model \w+, the champion is"):
        publish(project.production)


def test_a_ledger_of_another_run_is_refused(project_under):
    project = project_under("keep")
    Ledger.load(project.files.ledger("t1")).save(project.files.ledger("t2"))
    with pytest.raises(ArtifactError, match=r"artifacts/t2: the ledger ends with task t1"):
        publish(project.production)


def test_without_a_champion_there_is_nothing_to_publish(tmp_path):
    project = Project(tmp_path / "project", tasks=("t1",))
    with pytest.raises(ArtifactError, match="there is no champion after it"):
        publish(project.production, task="init")


def test_a_missing_artefact_is_one_clear_line(tmp_path):
    project = Project(tmp_path / "project", tasks=("t1",))
    with pytest.raises(ArtifactError, match=r"champion.json: missing; run `csd run` to make it"):
        publish(project.production)
    assert not project.production.releases.audit.path.exists()


def test_a_release_that_answers_known_queries_otherwise_never_comes_into_force(project_under):
    project = project_under("keep")

    def tampering(step):
        if step == "logged":  # as a disk that returns other bytes than were written
            folder = next((project.root / "releases").glob("0002-*"))
            content = bytearray((folder / "known" / "images.npy").read_bytes())
            content[-1] ^= 255
            (folder / "known" / "images.npy").write_bytes(content)

    with pytest.raises(ArtifactError, match=r"release 0002-\w+ is not fit and was given up: known/images.npy"):
        publish(project.production, on_step=tampering)
    assert project.active().number == 1
    assert project.findings() == ()
    assert publish(project.production).number == 3


def test_references_are_published_instead_of_images_where_params_say_so(tmp_path):
    project = Project(tmp_path / "project", tasks=("t1", "t2"), settings={"images": "reference"})
    project.promote("t1", "none").promote("t2", "backfill")
    publish(project.production, task="t1")
    assert {row["image"] for row in project.rows().values()} == {None}
    publish(project.production)
    assert project.findings() == ()


def test_a_log_that_was_tampered_with_stops_a_publish_before_anything_changes(project_under):
    project = project_under("keep")
    log = project.production.releases.audit.path
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(lines[0])  # as if the active release had been begun and never finished
    (project.root / "releases" / "current").unlink()
    with pytest.raises(ArtifactError, match="its end was cut off; nothing was changed"):
        publish(project.production)
    assert len(project.production.releases.names()) == 1
    assert len(project.production.live.tables()) == 1
