import numpy as np
import pytest
from projects import Project, pixels_of

from csd_core.releases.publish import publish
from csd_core.releases.rollback import rollback
from csd_core.system.errors import ArtifactError, CompatibilityError


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """Two releases, the second a full backfill in another dimension, and a live row from the time of the first."""
    project = Project(tmp_path_factory.mktemp("template") / "project", tasks=("t1", "t2"))
    project.promote("t1", "none").promote("t2", "backfill", dimension=20)
    publish(project.production, task="t1")
    project.early = project.put(pixels_of(40, 1, seed=1), "early")
    publish(project.production)
    return project


@pytest.fixture
def project(template, tmp_path):
    return template.copied_to(tmp_path / "project")


@pytest.fixture
def early(template):
    """The id of the row written before the upgrade."""
    return template.early[0]


def test_rollback_serves_the_earlier_model_and_rows_as_a_new_release(project, early):
    former = project.production.releases.get(1)
    release = rollback(project.production, why="complaints", by="olga")
    record = release.record
    assert (release.number, record.kind, record.rolled_back_to, record.parent) == (3, "rollback", 1, 2)
    assert (record.model, record.by, record.why) == (former.record.model, "olga", "complaints")
    assert {row["task"] for row in project.rows().values()} == {"t1", "live"}
    assert project.active().number == 3
    for name in ("embedder.onnx", "verdict.json", "check.json", "params.yaml"):
        assert (release.folder / name).read_bytes() == (former.folder / name).read_bytes()
    entry = project.production.releases.audit.read().entries[-1]
    assert (entry.event, entry.by, entry.why) == ("rolled back", "olga", "complaints")
    assert project.findings() == ()


def test_the_release_names_the_commit_of_the_one_it_returns_to(tmp_path):
    project = Project(tmp_path / "project", tasks=("t1", "t2"))
    project.promote("t1", "none").promote("t2", "keep")
    commit = project.commit()
    publish(project.production, task="t1")
    assert project.commit() != commit
    with (project.root / "params.yaml").open("a") as file:
        file.write("# not committed\n")
    second = publish(project.production)
    assert (second.record.commit, second.record.uncommitted) != (commit, False)
    first_again = rollback(project.production, why="complaints").record
    assert (first_again.commit, first_again.uncommitted) == (commit, False)
    second_again = rollback(project.production, 2, why="no reason to complain").record
    assert (second_again.commit, second_again.uncommitted) == (second.record.commit, True)


def test_rows_at_the_earlier_releases_tag_are_served_bit_for_bit(project):
    live, former = project.production.live, project.production.releases.get(1)
    digest = live.digest(former.table, version=former.tag)
    project.delete([identity for identity, row in project.rows().items() if row["label"] == "early"])
    release = rollback(project.production, why="complaints")
    assert live.digest(release.table) == digest


def test_rows_written_since_are_embedded_anew_by_the_earlier_model(project, early):
    image = pixels_of(41, 1, seed=1)
    (late,) = project.put(image, "late")
    rollback(project.production, why="complaints")
    rows = project.rows()
    assert np.allclose(rows[late]["vector"], project.model("t1")(image)[0], atol=1e-5)
    assert rows[late]["label"] == "late"
    assert np.allclose(rows[early]["vector"], project.model("t1")(pixels_of(40, 1, seed=1))[0], atol=1e-5)
    assert project.search(image, k=1).ids.tolist() == [[late]]


def test_a_row_that_the_earlier_release_holds_keeps_its_vector_though_its_image_is_gone(tmp_path):
    project = Project(tmp_path / "project", tasks=("t1", "t2"))
    project.promote("t1", "none").promote("t2", "keep")
    publish(project.production, task="t1")
    (identity,) = project.put(pixels_of(40, 1, seed=1), "imageless", keep_images=False)
    before = project.rows()[identity]["vector"]
    publish(project.production, task="t2")
    rollback(project.production, 1, why="first")  # 3: the row is no part of release 1, and cannot be had anew
    assert identity in project.rows()
    assert project.rows()[identity]["vector"] == before


def test_what_was_deleted_since_stays_deleted(project):
    gone = sorted(identity for identity, row in project.rows().items() if row["task"] == "t1")[:3]
    project.delete(gone)
    release = rollback(project.production, why="complaints")
    assert not project.rows().keys() & set(gone)
    assert release.record.rows == project.production.releases.get(1).record.rows + 1 - 3


def test_rows_written_while_it_is_prepared_are_served(project):
    images = pixels_of(45, 2, seed=1)
    left = {"built": images[:1], "caught up": images[1:]}

    def meanwhile(step):
        if step in left:
            project.put(left.pop(step), "during")

    rollback(project.production, why="complaints", on_step=meanwhile)
    assert [row["label"] for row in project.rows().values()].count("during") == 2


def test_rollback_can_be_undone(project):
    second = project.active().record
    rollback(project.production, why="complaints")
    release = rollback(project.production, why="the complaints were about something else")
    assert (release.number, release.record.rolled_back_to, release.record.model) == (4, 2, second.model)
    assert project.findings() == ()


def test_after_a_rollback_the_same_champion_can_be_published_again(project):
    rollback(project.production, why="complaints")
    release = publish(project.production, why="second try")
    assert (release.number, release.record.task) == (4, "t2")
    assert project.findings() == ()


def test_a_rollback_to_a_rollback_names_the_release_it_was(project):
    rollback(project.production, why="complaints")
    publish(project.production)
    assert rollback(project.production, 3, why="again").record.rolled_back_to == 1


@pytest.mark.parametrize(
    ("number", "error", "message"),
    [
        (2, CompatibilityError, "is active already"),
        (7, ArtifactError, r"release 7: there is no such release \(there are: 1, 2\)"),
    ],
)
def test_a_rollback_that_makes_no_sense_is_refused(project, number, error, message):
    log = project.production.releases.audit.path.read_bytes()
    with pytest.raises(error, match=message):
        rollback(project.production, number, why="complaints")
    assert project.production.releases.audit.path.read_bytes() == log


def test_before_the_first_release_there_is_nothing_to_roll_back(tmp_path):
    project = Project(tmp_path / "project", tasks=("t1",))
    project.promote("t1", "none")
    with pytest.raises(ArtifactError, match="nothing was published yet"):
        rollback(project.production, why="complaints")
    publish(project.production)
    with pytest.raises(ArtifactError, match="is the first one"):
        rollback(project.production, why="complaints")


def test_a_damaged_release_is_not_rolled_back_to(project):
    model = project.production.releases.get(1).embedder
    model.write_bytes(model.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match=r"release 0001-\w+ is damaged, so nothing was rolled back: embedder.onnx"):
        rollback(project.production, why="complaints")
    assert project.active().number == 2


def test_a_retired_release_is_not_rolled_back_to(tmp_path):
    project = Project(tmp_path / "project", settings={"keep_releases": 2})
    project.promote("t1", "none").promote("t2", "keep").promote("t3", "keep")
    for task in project.tasks:
        publish(project.production, task=task)
    with pytest.raises(ArtifactError, match=r"release 0001-\w+ was retired.*roll back to one of 2"):
        rollback(project.production, 1, why="complaints")


def test_a_rollback_to_a_release_all_of_whose_items_were_deleted_serves_none(project):
    project.delete(sorted(project.rows()))
    release = rollback(project.production, why="complaints")
    assert release.record.rows == 0
    assert project.findings() == ()
    (identity,) = project.put(pixels_of(45, 1, seed=1), "new")
    assert project.search(pixels_of(45, 1, seed=1), k=1).ids.tolist() == [[identity]]
