"""A run's own checkout: real git worktrees, real DVC."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock, Timeout
from pipelines import commit, dvc, git, shell_project

from csd_core.params.file import profile_text
from csd_core.system.errors import ArtifactError, CsdError, ParamsError
from csd_core.workspace import Workspace
from flows.runs.checkout import checkout, remove_branch, remove_leftovers
from flows.runs.clone import own_clone
from flows.runs.pipeline import stale_stages


@pytest.fixture(scope="module")
def finished(tmp_path_factory, request):
    """A small project with valid parameters whose pipeline has run; copy it before changing anything."""
    root = shell_project(tmp_path_factory.mktemp("finished") / "project")
    profiles = request.config.rootpath / "csd_core/project/profiles"
    (root / "params.yaml").write_text(profile_text(profiles, "tiny"), encoding="utf-8")
    dvc(root, "repro", "--quiet")
    commit(root, "finished")
    return root


@pytest.fixture
def home(finished, tmp_path):
    subprocess.run(["cp", "-a", str(finished), str(tmp_path / "home")], check=True)
    return Workspace(tmp_path / "home")


def head(home):
    return git(home.root, "rev-parse", "HEAD")


def traces(home):
    """What a checkout could leave behind."""
    return (
        git(home.root, "worktree", "list", "--porcelain").count("worktree "),
        [path.name for path in home.checkout("any").parent.glob("*")],
        git(home.root, "branch", "--list"),
        git(home.root, "status", "--porcelain"),
    )


def test_a_checkout_has_the_artefacts_of_its_commit_and_nothing_is_stale(home):
    with checkout(home, head(home), name="run") as place:
        assert (place.root / "report.txt").read_text() == "trained t1\ntrained t2\n"
        assert stale_stages(place.root) == set()
        assert git(place.root, "status", "--porcelain") == ""


def test_a_checkout_is_gone_afterwards_and_the_project_was_never_touched(home):
    (home.root / "params.yaml").write_text("an edit that is not committed\n")
    (home.root / "new.py").write_text("a file that git does not know\n")
    git(home.root, "add", "new.py")
    before = traces(home)
    with checkout(home, head(home), name="run") as place:
        (place.root / "params.yaml").write_text("{}\n")
    with pytest.raises(RuntimeError), checkout(home, head(home), name="run"):
        raise RuntimeError
    assert traces(home) == (1, [], *before[2:])


@pytest.mark.slow
def test_a_project_may_be_a_folder_of_a_larger_repository(finished, tmp_path):
    whole = tmp_path / "whole"
    shutil.copytree(finished, whole / "search", ignore=shutil.ignore_patterns(".git"))
    git(whole, "init", "--quiet")
    (whole / "other.txt").write_text("not ours\n")
    made = commit(whole)
    home = Workspace(whole / "search")
    with checkout(home, made, name="run") as place:
        assert place.root == home.checkout("run") / "search"
        assert (place.root / "report.txt").read_text() == "trained t1\ntrained t2\n"
        assert stale_stages(place.root) == set()
        changes = changed(place, "# changed\n", "Retraining")
        place.give_branch("retrain/run", changes)
    assert git(whole, "show", "--name-only", "--format=", "retrain/run").split() == ["search/params.yaml"]


def test_outputs_are_shared_with_the_cache_where_the_disk_can(home):
    with checkout(home, head(home), name="run") as place:
        assert (place.root / "report.txt").stat().st_nlink > 1


@pytest.mark.slow
def test_settings_that_git_does_not_know_come_along(home):
    dvc(home.root, "config", "--local", "remote.mine.url", "/somewhere")
    with checkout(home, head(home), name="run") as place:
        told = (place.root / ".dvc" / "config.local").read_text()
    assert "/somewhere" in told
    assert str(home.root / ".dvc" / "cache") in told


@pytest.mark.slow
def test_what_is_gone_from_the_cache_comes_from_the_remote_or_is_computed_again(home):
    dvc(home.root, "remote", "add", "--local", "--default", "store", "../store")  # as people write it
    dvc(home.root, "push", "--quiet")
    subprocess.run(["rm", "-rf", str(home.root / ".dvc" / "cache" / "files")], check=True)
    with checkout(home, head(home), name="run") as place:
        assert stale_stages(place.root) == set()
    subprocess.run(["rm", "-rf", str(home.root / ".dvc" / "cache" / "files")], check=True)
    dvc(home.root, "remote", "remove", "--local", "store")
    with checkout(home, head(home), name="run") as place:
        assert "report" in stale_stages(place.root)


@pytest.mark.slow
def test_checkpoints_are_handed_on_from_run_to_run(home):
    with checkout(home, head(home), name="one") as place:
        work = place.workspace.work("train-t1", "f" * 16)
        work.mkdir()
        (work / "checkpoint").write_text("epoch 3")
    with checkout(home, head(home), name="two") as place:
        assert (place.workspace.work("train-t1", "f" * 16) / "checkpoint").read_text() == "epoch 3"
    assert not home.work("train-t1", "f" * 16).exists()


@pytest.mark.slow
def test_two_runs_work_side_by_side_but_not_under_one_name(home):
    with checkout(home, head(home), name="one") as one, checkout(home, head(home), name="two") as two:
        assert one.root != two.root
        with pytest.raises(ArtifactError, match="another run works there"), checkout(home, head(home), name="one"):
            pass
        assert (one.root / "report.txt").is_file()


@pytest.mark.slow
def test_what_a_killed_run_left_is_removed_and_what_a_living_one_has_stays(home):
    script = (
        "import os, sys; from pathlib import Path; from csd_core.workspace import Workspace;"
        "from flows.runs.checkout import checkout\n"
        "with checkout(Workspace(Path(sys.argv[1])), 'HEAD', name='killed'): os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(home.root)], check=False, capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    assert home.checkout("killed").is_dir()
    with checkout(home, head(home), name="alive") as place:
        assert not home.checkout("killed").exists()
        assert remove_leftovers(home) == ()
        assert place.root.is_dir()
    assert traces(home)[:2] == (1, [])


def test_a_half_made_worktree_is_removed_too(home):
    home.checkout("half").mkdir(parents=True)
    (home.checkout("half") / "file").write_text("no worktree yet")
    assert remove_leftovers(home) == ("half",)
    assert traces(home)[:2] == (1, [])


def test_a_worktree_of_the_users_own_is_never_removed(home, tmp_path):
    git(home.root, "worktree", "add", "--quiet", "--detach", str(tmp_path / "theirs"))
    (tmp_path / "theirs").rename(tmp_path / "unplugged")
    with checkout(home, head(home), name="run"):
        pass
    (tmp_path / "unplugged").rename(tmp_path / "theirs")
    assert git(tmp_path / "theirs", "rev-parse", "HEAD") == head(home)


def test_a_commit_has_no_branch_until_it_is_given_one(home):
    start = head(home)
    with checkout(home, start, name="run") as place:
        (place.root / "params.yaml").write_text("# changed\n")
        (place.root / "stray.py").write_text("not ours to commit\n")
        made = place.commit("Retraining")
        assert git(home.root, "branch", "--list", "retrain/*") == ""
        place.give_branch("retrain/run", made)
    assert git(home.root, "rev-parse", "retrain/run") == made
    assert git(home.root, "rev-parse", "retrain/run^") == start
    assert git(home.root, "show", "--name-only", "--format=", "retrain/run").split() == ["params.yaml"]
    assert head(home) == start


def test_nothing_changed_makes_no_commit(home):
    with checkout(home, head(home), name="run") as place:
        assert place.commit("nothing") == place.start


def test_a_commit_needs_neither_a_git_identity_nor_hooks(home, monkeypatch, tmp_path):
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "none"))
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", str(tmp_path / "none"))
    hook = home.root / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    with checkout(home, head(home), name="run") as place:
        (place.root / "params.yaml").write_text("# changed\n")
        made = place.commit("Retraining")
        assert git(place.root, "log", "-1", "--format=%an <%ae>", made) == "csd <csd@localhost>"


def test_a_branch_that_somebody_has_is_not_overwritten(home):
    git(home.root, "branch", "retrain/run")
    with checkout(home, head(home), name="run") as place:
        (place.root / "params.yaml").write_text("# changed\n")
        with pytest.raises(CsdError, match="git update-ref failed"):
            place.give_branch("retrain/run", place.commit("Retraining"))
    assert git(home.root, "rev-parse", "retrain/run") == head(home)


def changed(place, text, message):
    with (place.root / "params.yaml").open("a") as params:
        params.write(text)
    return place.commit(message)


def test_a_branch_moves_on_from_where_the_run_left_it(home):
    git(home.root, "branch", "retrain/run")
    with checkout(home, head(home), name="run") as place:
        made = changed(place, "# one\n", "Review")
        place.move_branch("retrain/run", made, subject="Review")
    assert git(home.root, "rev-parse", "retrain/run") == made


@pytest.mark.slow
def test_what_a_killed_run_moved_gives_way_and_what_a_person_moved_does_not(home):
    git(home.root, "branch", "retrain/run")
    with checkout(home, head(home), name="killed") as place:
        place.move_branch("retrain/run", changed(place, "# one\n", "Review: approve"), subject="Review")
    with checkout(home, head(home), name="again") as place:
        made = changed(place, "# two\n", "Review: reject")
        place.move_branch("retrain/run", made, subject="Review")
    assert git(home.root, "rev-parse", "retrain/run") == made
    with checkout(home, made, name="person") as place:
        theirs = changed(place, "# three\n", "my own idea")
        git(home.root, "branch", "--force", "retrain/run", theirs)
    moved = pytest.raises(CsdError, match=f"retrain/run is at {theirs[:12]}, not at .*: somebody moved it")
    with checkout(home, head(home), name="late") as place, moved:
        place.move_branch("retrain/run", changed(place, "# four\n", "Review"), subject="Review")
    assert git(home.root, "rev-parse", "retrain/run") == theirs


def test_a_branch_that_somebody_removed_is_made_again(home):
    with checkout(home, head(home), name="run") as place:
        made = changed(place, "# one\n", "Review")
        place.move_branch("retrain/run", made, subject="Review")
    assert git(home.root, "rev-parse", "retrain/run") == made


def test_a_branch_is_removed_only_where_it_was_left(home):
    git(home.root, "branch", "retrain/run")
    remove_branch(home.root, "retrain/run", "f" * 40)
    assert git(home.root, "branch", "--list", "retrain/*")
    remove_branch(home.root, "retrain/run", head(home))
    remove_branch(home.root, "retrain/run", head(home))
    assert git(home.root, "branch", "--list", "retrain/*") == ""


def test_checkpoints_that_nobody_came_back_for_are_removed(home):
    old, young = home.handed_on / "train-t1-old", home.handed_on / "train-t2-young"
    for folder in (old, young):
        folder.mkdir(parents=True)
    os.utime(old, (0, 0))
    remove_leftovers(home)
    assert (old.exists(), young.exists()) == (False, True)


@pytest.mark.slow
def test_a_folder_outside_the_project_is_refused_and_wedges_nothing(home):
    (home.root.parent / "photos" / "cat").mkdir(parents=True)
    text = (home.root / "params.yaml").read_text()
    (home.root / "params.yaml").write_text(
        text.replace("folders: {}", "folders: {photos: {path: ../photos, layout: classes}}")
    )
    made = commit(home.root)
    refused = pytest.raises(ParamsError, match="sources.folders.photos.path: ../photos: leads out of the project")
    for _ in range(2):
        with refused, checkout(home, made, name="run"):
            pass
    assert traces(home)[:2] == (1, [])


@pytest.mark.slow
def test_a_folder_of_images_that_no_commit_has_is_lent(home):
    (home.root / "data" / "raw" / "photos" / "cat").mkdir(parents=True)
    text = (home.root / "params.yaml").read_text()
    (home.root / "params.yaml").write_text(
        text.replace("folders: {}", "folders: {photos: {path: data/raw/photos, layout: classes}}")
    )
    (home.root / ".gitignore").write_text((home.root / ".gitignore").read_text() + "/data/\n")
    made = commit(home.root)
    with checkout(home, made, name="run") as place:
        assert (place.root / "data" / "raw" / "photos").is_symlink()
        assert (place.root / "data" / "raw" / "photos" / "cat").is_dir()
    assert (home.root / "data" / "raw" / "photos" / "cat").is_dir()
    lock = (home.root / "dvc.lock").read_text()
    (home.root / "dvc.lock").write_text(lock + "  ingest-folder@photos: {cmd: x}\n")
    with checkout(home, commit(home.root), name="run") as place:  # known, but its canonical set is not in the cache
        assert (place.root / "data" / "raw" / "photos").is_symlink()


@pytest.mark.slow
def test_start_weights_that_no_commit_has_are_lent(home):
    (home.root / "data" / "raw").mkdir(parents=True)
    (home.root / "data" / "raw" / "start.pth").write_bytes(b"weights")
    text = (home.root / "params.yaml").read_text()
    (home.root / "params.yaml").write_text(text.replace("weights: null", "weights: data/raw/start.pth"))
    (home.root / ".gitignore").write_text((home.root / ".gitignore").read_text() + "/data/\n")
    with checkout(home, commit(home.root), name="run") as place:
        assert (place.root / "data" / "raw" / "start.pth").read_bytes() == b"weights"
    assert (home.root / "data" / "raw" / "start.pth").is_file()


def test_a_commit_that_does_not_exist_is_one_line_and_leaves_nothing(home):
    with pytest.raises(CsdError, match="git worktree failed"), checkout(home, "f" * 40, name="run"):
        pass
    assert traces(home)[:2] == (1, [])


def test_parameters_that_do_not_fit_name_the_commit(home):
    (home.root / "params.yaml").write_text("gate: {}\n")
    made = commit(home.root)
    refused = pytest.raises(ParamsError, match=f"^params.yaml at commit {made[:12]}: compute: missing")
    with refused, checkout(home, made, name="run"):
        pass


def test_the_lock_of_a_checkout_goes_with_it(home):
    with checkout(home, head(home), name="run"):
        (lock,) = home.checkout("any").parent.glob(".*.lock")
        with pytest.raises(Timeout):
            FileLock(lock).acquire(timeout=0)
    assert not lock.exists()


def test_a_lent_folder_may_hold_what_dvc_cannot_hash(home):
    file = home.root / "params.yaml"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("folders: {}", "folders: {photos: {path: data/raw/photos, layout: classes}}"))
    git(home.root, "commit", "--quiet", "--all", "--message", "a folder")
    cat = home.root / "data" / "raw" / "photos" / "cat"
    cat.mkdir(parents=True)
    os.mkfifo(cat / "pipe.png")
    with checkout(home, head(home), name="one") as place:
        assert "/data/raw/photos/cat/pipe.png" in (place.root / ".dvcignore").read_text(encoding="utf-8")
        assert place.commit("nothing new") == place.start
    assert git(home.root, "status", "--porcelain") == ""


@pytest.fixture
def shared(home, tmp_path):
    """The project with a repository and a DVC remote that other machines reach."""
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch", "main", "shared.git")
    git(home.root, "branch", "--move", "--force", "main")
    dvc(home.root, "remote", "add", "--default", "store", str(tmp_path / "store"))
    commit(home.root, "several machines")
    git(home.root, "remote", "add", "origin", str(tmp_path / "shared.git"))
    git(home.root, "config", "csd.remote", "origin")
    git(home.root, "push", "--quiet", "origin", "main")
    dvc(home.root, "push", "--quiet")
    return home


def test_a_machine_that_never_saw_the_project_takes_a_branch_from_the_remotes_alone(shared, tmp_path):
    with checkout(shared, head(shared), name="run") as place:
        (place.root / "train.sh").write_text('echo "trained $1 longer" > model-$1.txt\n')
        dvc(place.root, "repro", "--quiet")
        git(place.root, "add", "train.sh")
        made = changed(place, "# changed\n", "Retraining")
        place.give_branch("retrain/run", made)
    assert git(shared.root, "rev-parse", "retrain/run") == git(tmp_path / "shared.git", "rev-parse", "retrain/run")
    shared.root.rename(tmp_path / "away")  # what the other machine has is of no use to this one
    clone = Workspace(Path(own_clone(str(tmp_path / "shared.git"), folder=str(tmp_path / "mine"))["directory"]))
    with checkout(clone, made, name="review") as place:
        assert (place.root / "report.txt").read_text() == "trained t1 longer\ntrained t2 longer\n"
        assert stale_stages(place.root) == set()
        place.move_branch("retrain/run", changed(place, "# decided\n", "Review"), subject="Review")
    (tmp_path / "away").rename(shared.root)
    with checkout(shared, made, name="late") as place, pytest.raises(CsdError, match="cannot be pushed to remote"):
        place.move_branch("retrain/run", changed(place, "# decided otherwise\n", "Review"), subject="Review")
    remove_branch(clone.root, "retrain/run", git(clone.root, "rev-parse", "retrain/run"))
    assert git(tmp_path / "shared.git", "branch", "--list", "retrain/*") == ""


def test_a_commit_from_before_the_remote_was_named_has_its_artefacts_on_another_machine_too(shared, tmp_path):
    clone = Workspace(Path(own_clone(str(tmp_path / "shared.git"), folder=str(tmp_path / "mine"))["directory"]))
    shared.root.rename(tmp_path / "away")
    with checkout(clone, f"{head(clone)}^", name="run") as place:
        assert (place.root / "report.txt").read_text() == "trained t1\ntrained t2\n"
        assert stale_stages(place.root) == set()


def test_a_branch_whose_artefacts_cannot_be_pushed_is_not_pushed(shared, tmp_path):
    shutil.rmtree(tmp_path / "store")
    (tmp_path / "store").write_text("no folder")
    with checkout(shared, head(shared), name="run") as place:
        (place.root / "train.sh").write_text('echo "trained $1 longer" > model-$1.txt\n')
        dvc(place.root, "repro", "--quiet")
        with pytest.raises(CsdError, match="dvc push: "):
            place.give_branch("retrain/run", changed(place, "# changed\n", "Retraining"))
    assert git(tmp_path / "shared.git", "branch", "--list", "retrain/*") == ""
