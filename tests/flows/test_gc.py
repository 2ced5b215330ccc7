"""Cleaning the cache of DVC: real git and real DVC."""

import hashlib
import json
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pipelines import commit, git, shell_project

from csd_core.params.file import profile_text
from csd_core.releases.safekeeping import follow
from csd_core.releases.store import Releases
from csd_core.system.errors import BusyError
from csd_core.workspace import Workspace
from flows.gc import gc, needed
from flows.project import alone

sys.path.append(str(Path(__file__).parents[1] / "retraining"))
from senders import activate, retraining  # the folder is no package


def versioned(root, name):
    """Version a folder of one image as `dvc add` does, without the seconds of its process; gives the commit."""
    content = f"pixels of {name}".encode()
    image = hashlib.md5(content, usedforsecurity=False).hexdigest()
    listing = json.dumps([{"md5": image, "relpath": "0.png"}]).encode()
    folder = hashlib.md5(listing, usedforsecurity=False).hexdigest() + ".dir"
    for digest, data in ((image, content), (folder, listing)):
        place = root / ".dvc" / "cache" / "files" / "md5" / digest[:2] / digest[2:]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    (root / "images.dvc").write_text(f"outs:\n- md5: {folder}\n  nfiles: 1\n  hash: md5\n  path: images\n")
    return commit(root, name)


@pytest.fixture
def project(tmp_path, request, monkeypatch):
    """A release, a review and a rejected retraining, each on a branch of its own with images of its own."""
    root = shell_project(tmp_path / "project")
    profiles = request.config.rootpath / "csd_core/project/profiles"
    (root / "params.yaml").write_text(profile_text(profiles, "tiny"), encoding="utf-8")
    (root / ".gitignore").write_text("/operations/\n/.csd/\n/releases/\n/images\n")
    (root / "dvc.yaml").unlink()
    git(root, "checkout", "--quiet", "-B", "main")
    versioned(root, "main")
    made = {}
    for name in ("released", "reviewed", "rejected"):
        git(root, "checkout", "--quiet", "-b", f"retrain/{name}", "main")
        made[name] = versioned(root, name)
    git(root, "checkout", "--quiet", "main")
    activate(Workspace(root), lambda *_, **__: None, sha=made["released"])
    retraining("reviewed", commit=made["reviewed"], outcome="in review").save_to(Workspace(root))
    retraining("rejected", commit=made["rejected"], outcome="rejected").save_to(Workspace(root))
    monkeypatch.chdir(root)
    return root, made


def objects(root):
    """What lies in the cache, each folder's listing left out."""
    files = (root / ".dvc" / "cache" / "files").rglob("*")
    return {path.read_text().removeprefix("pixels of ") for path in files if path.is_file() and path.suffix != ".dir"}


def said(capsys):
    return " ".join(capsys.readouterr().out.split())


def test_what_releases_and_reviews_need_is_shown_and_kept_and_only_the_rest_goes(project, capsys):
    root, made = project
    before = objects(root)
    gc()
    told = said(capsys)
    assert re.search(rf"{made['released'][:12]}\W+release 0001-a{{12}} \(active\)", told)
    assert re.search(rf"{made['reviewed'][:12]}\W+retraining reviewed \(in review\)", told)
    assert "branch main" in told
    assert "rejected" not in told
    assert "2 objects in the cache are needed by nothing" in told
    assert "WARNING: DVC has no remote" in told
    assert "Never run `dvc gc -w`" in told
    assert objects(root) == before == {"main", *made}
    gc(now=True)
    assert "2 objects in the cache are needed by nothing and were removed" in said(capsys)
    assert objects(root) == {"main", "released", "reviewed"}
    assert git(root, "worktree", "list").count("\n") == 0


def test_nothing_is_cleaned_while_a_retraining_is_at_work(project):
    with ThreadPoolExecutor(1) as other, alone(Workspace(project[0])), pytest.raises(BusyError):
        other.submit(gc).result()


def test_a_branch_follows_the_active_release_and_tags_of_versions_need_nothing(project, capsys):
    root, made = project
    release = Releases.of(Workspace(root), "releases").active()
    follow(root, release)
    follow(root, release)
    assert git(root, "rev-parse", "production") == made["released"]
    git(root, "tag", "embedder@v1", made["rejected"])
    git(root, "tag", "--annotate", "--message", "as in the paper", "paper", made["rejected"])
    wanted = needed(Workspace(root))
    assert wanted[made["rejected"]] == ["tags/paper"]
    assert wanted[made["released"]] == [f"release {release.name} (active)", "branch production"]
    git(root, "branch", "--force", "production", made["reviewed"])
    git(root, "checkout", "--quiet", "production")
    follow(root, release)
    assert f"do it: git branch --force production {made['released'][:12]}" in said(capsys)
