import subprocess

import pytest
from senders import DIGITS, activate, commit, git, new_project

from csd_core.records.stages import Champion, SeenShards, ShardRecord
from csd_core.retraining.start import Start, known_classes, starting_point
from csd_core.system.errors import ArtifactError, ParamsError
from csd_core.workspace import Workspace

TEN = {str(digit) for digit in range(10)}


@pytest.fixture
def files(tmp_path):
    return new_project(tmp_path / "project")


# --- where ------------------------------------------------------------------------------------------------------------


def test_without_a_release_a_retraining_starts_at_head(files):
    head = commit(files.root)
    assert starting_point(files, None) == Start(commit=head, release=None)


def test_with_a_release_it_starts_at_its_commit(files, linear_embedder):
    released = commit(files.root)
    commit(files.root, "later")
    name = activate(files, linear_embedder, sha=released)
    start = starting_point(files, None)
    assert (start.commit, start.release.name) == (released, name)


def test_a_revision_overrules_the_release(files, linear_embedder):
    first = git(files.root, "rev-parse", "HEAD")
    git(files.root, "tag", "v1")
    name = activate(files, linear_embedder, sha=commit(files.root))
    for revision in (first, first[:8], "v1", "HEAD~1"):
        start = starting_point(files, revision)
        assert (start.commit, start.release.name) == (first, name)


@pytest.mark.parametrize("revision", ["nowhere", "--all", "-h", "HEAD~99", "", "HEAD:params.yaml", "1" * 40])
def test_an_unknown_revision_is_one_line(files, revision):
    with pytest.raises(ParamsError, match=r"revision .*: there is no such commit here; name a commit, branch or tag"):
        starting_point(files, revision)


def test_a_release_that_was_published_outside_git_names_no_commit(files, linear_embedder):
    name = activate(files, linear_embedder, sha=None)
    with pytest.raises(ArtifactError, match=f"release {name} names no commit, .*; choose a revision to start from"):
        starting_point(files, None)
    assert starting_point(files, "HEAD").release.name == name


def test_a_release_of_uncommitted_files_is_no_start(files, linear_embedder):
    activate(files, linear_embedder, sha=commit(files.root), uncommitted=True)
    with pytest.raises(
        ArtifactError, match="was made from files that differed from its commit .* commit them and choose"
    ):
        starting_point(files, None)


def test_a_release_of_another_clone_asks_for_a_fetch(files, linear_embedder):
    activate(files, linear_embedder, sha="1" * 40)
    with pytest.raises(ArtifactError, match="its commit 111111111111 is not in this repository; git fetch, or choose"):
        starting_point(files, None)


def test_without_a_repository_one_line_says_so(tmp_path):
    with pytest.raises(
        ArtifactError, match=r"is no git repository, and a retraining starts from a commit; run git init"
    ):
        starting_point(Workspace(tmp_path), None)


def test_without_a_commit_one_line_says_so(tmp_path):
    git(tmp_path, "init", "--quiet")
    with pytest.raises(ArtifactError, match="there is no commit to start from; commit the project"):
        starting_point(Workspace(tmp_path), None)


def test_without_git_one_line_says_so(tmp_path, monkeypatch):
    def missing(*_, **__):
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", missing)
    with pytest.raises(ArtifactError, match="git is not installed"):
        starting_point(Workspace(tmp_path), None)


# --- which classes are known ------------------------------------------------------------------------------------------


def known(files):
    return known_classes(files, starting_point(files, None))


def take_whole_sources(files):
    """Commit tasks that list no classes."""
    text = DIGITS.read_text().replace('classes: ["0", "1", "2", "3"]', "classes: null")
    (files.root / "params.yaml").write_text(text)
    commit(files.root)


def test_classes_that_the_start_lists_are_known(files):
    (files.root / "params.yaml").write_text("edited since")
    assert known(files) == TEN


def test_classes_of_the_released_model_are_known(files, linear_embedder):
    take_whole_sources(files)
    activate(files, linear_embedder, sha=commit(files.root), classes=("cafe\u0301", "owl"))
    assert known(files) == {"4", "5", "6", "7", "8", "9", "caf\u00e9", "owl"}


def test_classes_of_the_newest_artefacts_are_known(files):
    take_whole_sources(files)
    for task, classes in (("t1", ("cat",)), ("t2", ("cat", "fox"))):
        shard = ShardRecord(
            task=task, source="digits", classes=classes, counts={}, skipped=0, digest="0"
        )  # t2's candidate was rejected, so that no model knows the fox
        SeenShards(shards=(shard,)).save(files.seen(task))
    Champion(task="t1", digest="0", parent=None, dimension=4, classes=("cat", "dog")).save(
        files.champion_embedder("t2") / "champion.json"
    )
    assert known(files) == {"4", "5", "6", "7", "8", "9", "cat", "dog", "fox"}


def test_a_start_with_fewer_parameters_than_today_has_its_classes(files):
    (files.root / "params.yaml").write_text("tasks:\n  t1: {source: digits, classes: [a, b]}\n")
    commit(files.root)
    assert known(files) == {"a", "b"}


@pytest.mark.parametrize("text", ["", "tasks: [", "tasks: 3", "tasks: {t1: {}}", "tasks: {t1: null}", "a: 1"])
def test_a_start_whose_params_list_no_classes_is_one_line(files, text):
    (files.root / "params.yaml").write_text(text)
    commit(files.root)
    with pytest.raises(ArtifactError, match=r"params.yaml at commit \w{12}: lists no tasks with their classes"):
        known(files)


def test_a_start_without_params_is_one_line(files):
    (files.root / "params.yaml").unlink()
    commit(files.root)
    with pytest.raises(ArtifactError, match=r"commit \w{12} has no params.yaml; choose a revision to start from"):
        known(files)


@pytest.mark.parametrize("content", [b"", b"\xff" * 100, None])
def test_a_damaged_model_is_one_line(files, linear_embedder, content):
    name = activate(files, linear_embedder, sha=commit(files.root))
    model = files.root / "releases" / name / "embedder.onnx"
    model.unlink()
    if content is not None:
        model.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"embedder.onnx: is no model of csd \(.*\); `csd verify` says"):
        known(files)
