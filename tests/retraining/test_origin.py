"""Two machines that share a bare repository: branches and records, in any order of writing."""

import subprocess
import threading
from itertools import pairwise

import pytest
from senders import inbox_batch, retraining

from csd_core.retraining.history import retrainings
from csd_core.retraining.origin import Origin, fetch_shared, share
from csd_core.retraining.unusable import remember, why_unusable
from csd_core.system.errors import CsdError
from csd_core.workspace import Workspace


def git(root, *arguments):
    identity = ["-c", "user.name=Tester", "-c", "user.email=tester@localhost"]
    done = subprocess.run(["git", "-C", str(root), *identity, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def bare(tmp_path):
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch", "main", "bare.git")
    return tmp_path / "bare.git"


@pytest.fixture
def machines(bare, tmp_path):
    """Two clones of it, in each the project is the folder `search`."""
    found = []
    for name in ("first", "second"):
        git(tmp_path, "clone", "--quiet", str(bare), name)
        root = tmp_path / name
        if not found:
            (root / "search").mkdir()
            (root / "search" / "params.yaml").write_text("{}\n")
            git(root, "checkout", "--quiet", "-B", "main")
            git(root, "add", "--all")
            git(root, "commit", "--quiet", "--message", "a project")
            git(root, "push", "--quiet", "origin", "main")
        git(root, "config", "csd.remote", "origin")
        found.append(Workspace(root / "search"))
    return found


def names(machine):
    fetch_shared(machine)
    return [each.name for each in retrainings(machine)]


def test_a_project_on_one_machine_shares_nothing(tmp_path):
    git(tmp_path, "init", "--quiet")
    retraining("a").save_to(Workspace(tmp_path))
    assert Origin.of(Workspace(tmp_path)) is None
    assert names(Workspace(tmp_path)) == ["a"]
    assert git(tmp_path, "for-each-ref") == ""


def test_a_record_is_seen_changed_and_removed_on_another_machine(machines):
    first, second = machines
    retraining("a", outcome="unfinished").save_to(first)
    assert names(second) == ["a"]
    retraining("a", outcome="published").save_to(second)
    fetch_shared(first)
    assert retrainings(first)[0].outcome == "published"
    first.retraining("a").unlink()
    share(first, first.retraining("a"))
    assert names(second) == []


def test_two_machines_that_know_nothing_of_each_other_keep_both_records(machines):
    first, second = machines
    retraining("a").save_to(first)
    retraining("b").save_to(second)
    assert names(first) == names(second) == ["a", "b"]


def test_many_writers_at_once_lose_nothing_and_every_change_is_a_commit(machines, bare):
    def write(machine, letter):
        for number in range(4):
            retraining(f"{letter}{number}").save_to(machine)

    threads = [threading.Thread(target=write, args=pair) for pair in zip(machines, "ab", strict=True)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    every = [f"{letter}{number}" for letter in "ab" for number in range(4)]
    assert names(machines[0]) == names(machines[1]) == every
    commits = git(bare, "rev-list", "refs/csd/search/operations").splitlines()
    assert len(commits) == len(every)
    assert all(git(bare, "rev-parse", f"{newer}^") == older for newer, older in pairwise(commits))


def test_reports_and_unusable_batches_are_shared_and_nothing_else(machines, bare):
    first, second = machines
    page = first.retraining("a").with_suffix(".html")
    page.parent.mkdir(parents=True)
    page.write_bytes(b"<p>\xc3\xa9\r\n\x00")
    share(first, page)
    remember(first, inbox_batch("monday"), "no images")
    (first.operations / "private").write_text("mine")
    fetch_shared(second)
    assert second.retraining("a").with_suffix(".html").read_bytes() == page.read_bytes()
    assert why_unusable(second, inbox_batch("monday")) == "no images"
    listed = git(bare, "ls-tree", "-r", "--name-only", "refs/csd/search/operations").splitlines()
    assert listed == ["retrainings/a.html", "unusable/monday.json"]


def test_a_strange_name_in_the_records_writes_nothing_here(machines):
    first, second = machines
    retraining("a").save_to(first)
    tree = git(first.root, "rev-parse", "refs/csd/search/operations^{tree}")
    blob = git(first.root, "rev-parse", f"{tree}:retrainings/a.json")
    entries = f"100644 blob {blob}\tparams.yaml\n120000 blob {blob}\tlink\n040000 tree {tree}\tretrainings\n"
    made = subprocess.run(
        ["git", "-C", str(first.root), "mktree"], input=entries, check=True, capture_output=True, text=True
    ).stdout.strip()
    commit = git(first.root, "commit-tree", made, "-m", "strange")
    git(first.root, "push", "--quiet", "--force", "origin", f"{commit}:refs/csd/search/operations")
    fetch_shared(second)
    assert [path.name for path in second.operations.rglob("*") if path.suffix != ".lock"] == []


def test_a_branch_of_one_machine_is_one_of_the_other_and_nobody_moves_it_unawares(machines):
    first, second = machines
    start = git(first.root, "rev-parse", "HEAD")
    later = git(first.root, "commit-tree", "HEAD^{tree}", "-p", "HEAD", "-m", "later")
    Origin.of(first).push("retrain/a", start, expected=None)
    fetch_shared(second)
    assert git(second.root, "rev-parse", "retrain/a") == start
    Origin.of(first).push("retrain/a", later, expected=start)
    other = git(second.root, "commit-tree", "HEAD^{tree}", "-p", "HEAD", "-m", "other")
    for expected in (start, None):
        with pytest.raises(CsdError, match=r"retrain/a: cannot be pushed to remote origin; somebody moved it"):
            Origin.of(second).push("retrain/a", other, expected=expected)
    Origin.of(second).remove("retrain/a", start)  # it is elsewhere by now
    fetch_shared(second)
    assert git(second.root, "rev-parse", "retrain/a") == later
    Origin.of(second).remove("retrain/a", later)
    assert "retrain/a" not in git(second.root, "ls-remote", "origin")


def test_a_repository_that_is_gone_is_told_in_one_line(machines, bare):
    bare.rename(bare.with_name("elsewhere.git"))
    with pytest.raises(CsdError, match=r"remote origin: cannot be fetched from; check") as failed:
        fetch_shared(machines[0])
    assert "\n" not in str(failed.value)
    with pytest.raises(CsdError, match="cannot be fetched from"):
        retraining("a").save_to(machines[0])
