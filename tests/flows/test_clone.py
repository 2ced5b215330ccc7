"""A machine's own clone, as the step under `pull` makes it and brings it up to date."""

import os

import pytest
from pipelines import git
from prefect.utilities.templating import apply_values

from csd_core.system.errors import CsdError, ParamsError
from flows.runs.clone import own_clone


@pytest.fixture
def repository(tmp_path):
    root = tmp_path / "search.git"
    root.mkdir()
    git(root, "init", "--quiet", "--initial-branch", "main")
    written(root, "one")
    return root


def written(root, text):
    (root / "params.yaml").write_text(text)
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", text)
    return git(root, "rev-parse", "HEAD")


def test_a_clone_is_made_once_and_follows_its_branch(repository, tmp_path):
    cloned = own_clone(str(repository), folder=str(tmp_path / "mine"))["directory"]
    (tmp_path / "mine" / cloned / ".dvc").mkdir()  # what a run left: DVC's cache, checkpoints
    later = written(repository, "two")
    git(repository, "branch", "old", "HEAD^")
    assert own_clone(str(repository), folder=str(tmp_path / "mine"))["directory"] == cloned
    place = tmp_path / "mine" / cloned
    assert (place / "params.yaml").read_text() == "two"
    assert (place / ".dvc").is_dir()
    assert git(place, "rev-parse", "main", "HEAD").split() == [later, later]
    assert git(place, "config", "csd.remote") == "origin"
    assert git(place, "log", "--format=%s", "main").split() == ["two", "one"]  # with its history
    git(repository, "branch", "--delete", "--force", "old")
    own_clone(str(repository), folder=str(tmp_path / "mine"))
    assert "old" not in git(place, "branch", "--list")


def test_what_a_killed_clone_left_is_no_clone(repository, tmp_path):
    cloned = own_clone(str(repository), folder=str(tmp_path / "other"))["directory"]
    name = cloned.rpartition("/other/")[2].split("/")[0]
    half = tmp_path / "mine" / f"{name}.partial"
    half.mkdir(parents=True)
    (half / "HEAD").write_text("half")
    own_clone(str(repository), folder=str(tmp_path / "mine"))
    assert (tmp_path / "mine" / name / "params.yaml").is_file()
    assert not half.exists()


def test_another_branch_and_a_project_below_the_repository(repository, tmp_path):
    git(repository, "checkout", "--quiet", "-b", "trial")
    (repository / "search").mkdir()
    written(repository, "three")
    found = own_clone(str(repository), "trial", str(tmp_path / "mine"), "search")["directory"]
    assert found.endswith("/search")
    assert (tmp_path / "mine" / found / ".." / "params.yaml").read_text() == "three"


def test_variables_that_are_not_set_leave_branch_and_folder_as_they_are(repository, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CSD_REPOSITORY", str(repository))
    inputs = {"repository": "{{ $CSD_REPOSITORY }}", "branch": "{{ $CSD_BRANCH }}", "folder": "{{ $CSD_PROJECTS }}"}
    found = own_clone(**apply_values(inputs, os.environ))["directory"]
    assert found.startswith(str(tmp_path / "home" / ".csd" / "projects"))


def test_two_repositories_of_one_name_are_two_clones(repository, tmp_path):
    other = tmp_path / "elsewhere" / "search.git"
    other.mkdir(parents=True)
    git(other, "init", "--quiet", "--initial-branch", "main")
    written(other, "another")
    folders = {own_clone(str(each), folder=str(tmp_path / "mine"))["directory"] for each in (repository, other)}
    assert len(folders) == 2


def test_what_is_wrong_is_told_in_one_line_without_the_keys(repository, tmp_path):
    with pytest.raises(CsdError, match=r"has no branch gone; name another under `pull` in prefect.yaml"):
        own_clone(str(repository), "gone", str(tmp_path / "mine"))
    with pytest.raises(ParamsError, match=r"own_clone: names no repository; write its address there, or set"):
        own_clone("", folder=str(tmp_path / "mine"))
    with pytest.raises(CsdError, match=r"http://127.0.0.1:9/search.git: cannot be cloned; check") as failed:
        own_clone("http://ada:secret@127.0.0.1:9/search.git", folder=str(tmp_path / "mine"))
    assert "secret" not in str(failed.value)
    assert "\n" not in str(failed.value)
