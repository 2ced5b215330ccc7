"""Publishing and its undo, on a small project and a server of their own."""

import sys
from pathlib import Path

import pytest
from prefect import flow
from ruamel.yaml import YAML

from csd_core.releases.store import Releases
from csd_core.system.errors import ArtifactError, CompatibilityError, ParamsError
from flows import publish as module
from flows.forms import Rollback
from flows.publish import new_tasks, of_checkout, publish_tasks, rollback

sys.path.append(str(Path(__file__).parents[1] / "production"))
from projects import Project  # the folder is no package

pytestmark = [pytest.mark.usefixtures("prefect_harness")]


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    project = Project(tmp_path_factory.mktemp("template") / "project", tasks=("t1", "t2", "t3"))
    project.promote("t1", "none").promote("t2", "keep")
    project.reject("t3")
    (project.root / "dvc.yaml").write_text("stages: {}\n")
    return project


@pytest.fixture
def project(template, tmp_path, monkeypatch):
    project = template.copied_to(tmp_path / "project")
    monkeypatch.chdir(project.root)
    monkeypatch.setattr(module, "emit_event", lambda *_, **__: None)
    return project


@flow
def publishing(home, files, tasks):
    return publish_tasks(home, files, tasks, by="Ada", why="a test")


def active(project):
    return Releases.of(project.files, "releases").active().record


def test_each_champion_follows_the_one_it_was_trained_from(project):
    made = publishing(project.files, project.files, ["t1", "t2", "t3"])
    releases = Releases.of(project.files, "releases").all()
    assert made == tuple(each.name for each in releases)
    assert [each.record.kind for each in releases] == ["publish", "publish", "refresh"]
    assert {each.record.by for each in releases} == {"Ada"}


def test_what_is_in_force_already_makes_no_release(project):
    publishing(project.files, project.files, ["t1"])
    assert publishing(project.files, project.files, ["t1"]) == ()
    assert len(Releases.of(project.files, "releases").all()) == 1


def test_a_champion_of_another_line_is_refused_and_nothing_changes(project):
    publishing(project.files, project.files, ["t2"])
    with pytest.raises(CompatibilityError, match="does not descend from its model"):
        publishing(project.files, project.files, ["t1"])
    assert active(project).after == "t2"


def test_a_release_that_does_not_prove_fit_is_withdrawn(project, monkeypatch):
    publishing(project.files, project.files, ["t1"])
    found = module.verifying.verify

    def damaged(releases, live, *, which):
        told = found(releases, live, which=which)
        return (
            told._replace(findings=("release 0002: its model is another",)) if releases.active().number == 2 else told
        )

    monkeypatch.setattr(module.verifying, "verify", damaged)
    with pytest.raises(ArtifactError, match="its model is another"):
        publishing(project.files, project.files, ["t2"])
    release = active(project)
    assert (release.kind, release.rolled_back_to, release.after) == ("rollback", 1, "t1")
    assert "withdrawn" in release.why


def test_a_first_release_that_does_not_prove_fit_stays_for_there_is_no_other(project, monkeypatch):
    def damaged(*_, **__):
        raise ArtifactError("damaged")

    monkeypatch.setattr(module.verifying, "verify", damaged)
    with pytest.raises(ArtifactError, match="damaged"):
        publishing(project.files, project.files, ["t1"])
    assert active(project).number == 1


def test_the_flow_rollback_returns_to_the_release_before(project):
    publishing(project.files, project.files, ["t1", "t2"])
    state = rollback(Rollback(why="complaints", by="Ada"), return_state=True)
    assert state.is_completed()
    assert "which is release 1 again" in state.message
    assert (active(project).rolled_back_to, active(project).by) == (1, "Ada")


def test_a_rollback_that_is_impossible_fails_with_its_one_line(project):
    state = rollback(Rollback(why="complaints"), return_state=True)
    assert state.name == "Failed"
    assert state.message.startswith("nothing was published yet")
    publishing(project.files, project.files, ["t1"])
    state = rollback(Rollback(number=7, why="complaints"), return_state=True)
    assert state.message.startswith("release 7: there is no such release")


def test_the_tasks_to_publish_are_those_after_the_release_in_force(project):
    assert new_tasks(project.files, project.files) == ("t1", "t2", "t3")
    publishing(project.files, project.files, ["t1"])
    assert new_tasks(project.files, project.files) == ("t2", "t3")
    publishing(project.files, project.files, ["t2", "t3"])
    assert new_tasks(project.files, project.files) == ("t3",)


def test_images_that_would_lie_in_a_removed_checkout_are_refused(project):
    path = project.root / "params.yaml"
    values = YAML(typ="safe").load(path)
    values["live"]["images"] = "reference"
    with path.open("w") as file:
        YAML().dump(values, file)
    with pytest.raises(ParamsError, match="live.images: reference: .* write store"):
        of_checkout(project.files, project.files)
