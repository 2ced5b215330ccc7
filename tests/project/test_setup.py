"""`csd init`: a project of one's own, in an empty folder, in a repository, in a part of one, and after a kill."""

import os
import subprocess
from pathlib import Path

import pytest
from dvc.repo import Repo

from csd_core import cli
from csd_core.params.file import PROFILES, profile_text
from csd_core.project.setup import FILES, set_up, template
from csd_core.system.errors import ParamsError

ROOT = Path(__file__).parents[2]
WRITTEN = ("params.yaml", *FILES)


def git(root, *arguments):
    done = subprocess.run(["git", "-C", str(root), *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def repository(root):
    root.mkdir()
    git(root, "init", "--quiet")
    (root / "README.md").write_text("ours\n")
    git(root, "add", "--all")
    git(root, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--message", "ours")
    return root


def init(*arguments):
    """Exit code of `csd init`."""
    with pytest.raises(SystemExit) as stopped:
        cli.main(["init", *arguments])
    return stopped.value.code


@pytest.mark.parametrize("name", ["dvc.yaml", "prefect.yaml", ".dvc/config", ".dvc/.gitignore"])
def test_this_repository_has_the_files_of_the_template(name):
    assert (ROOT / name).read_bytes() == template(name).encode()


def test_the_lists_of_the_template_stand_in_those_of_this_repository():
    for name in (".gitignore", ".dvcignore"):
        assert set(template(name).split("\n")) - set((ROOT / name).read_text().split("\n")) <= {
            line for line in template(name).split("\n") if line.startswith("#")
        }


def test_an_empty_folder_becomes_a_project_that_dvc_and_git_know(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert init("shop", "--profile", "tiny") == 0
    root = tmp_path / "shop"
    assert capsys.readouterr().out == f"{root}: wrote {', '.join(WRITTEN)}\nNext: cd shop && csd run\n"
    assert (root / "params.yaml").read_text() == profile_text(PROFILES, "tiny")
    assert set(git(root, "ls-files").split()) == set(WRITTEN)
    assert git(root, "status", "--short") == ""
    with Repo(str(root)) as repo:
        assert repo.root_dir == str(root)
        assert {"code", "train@t3", "report"} <= {stage.name for stage in repo.index.stages}
    assert len((root / "README.md").read_text().splitlines()) == 10


def test_the_current_folder_and_a_second_time(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert init() == 0
    assert capsys.readouterr().out.endswith("\nNext: csd run\n")
    (tmp_path / "params.yaml").write_text("# edited\n")
    head = git(tmp_path, "rev-parse", "HEAD")
    assert init() == 0
    assert capsys.readouterr().out == f"{tmp_path}: is a project; nothing was missing\n"
    assert ((tmp_path / "params.yaml").read_text(), git(tmp_path, "rev-parse", "HEAD")) == ("# edited\n", head)


def test_a_part_of_a_repository_becomes_a_project_of_its_own_and_nothing_is_committed(tmp_path):
    outer = repository(tmp_path / "outer")
    set_up(outer / "part", "tiny")
    assert not (outer / "part" / ".git").exists()
    assert git(outer, "log", "--format=%s") == "ours"
    assert git(outer, "status", "--short") == "?? part/"
    with Repo(str(outer / "part")) as repo:
        assert (repo.root_dir, repo.scm.root_dir) == (str(outer / "part"), str(outer))


def test_files_that_are_there_stay_and_a_line_says_what_to_do(tmp_path, capsys):
    root = repository(tmp_path / "there")
    (root / "dvc.yaml").write_text("stages: {}\n")
    (root / ".gitignore").write_text(
        "\n".join(sorted(set(template(".gitignore").split()) - {"/report/", "/live/", "/releases/"}))
    )
    (root / "params.yaml").write_text("a: 1\n")
    assert init(str(root), "--profile", "tiny") == 0
    assert capsys.readouterr().out.splitlines()[:3] == [
        "dvc.yaml, README.md: there already and left as they are; for csd's, move them away and run `csd init` again",
        ".gitignore: there already and left as it is; add these lines to it: /report/ /live/ /releases/",
        "params.yaml: there already and left as it is; `csd profile use tiny` replaces it",
    ]
    assert [(root / name).read_text() for name in ("dvc.yaml", "params.yaml", "README.md")] == [
        "stages: {}\n",
        "a: 1\n",
        "ours\n",
    ]


@pytest.mark.parametrize("count", range(len(WRITTEN) + 1))
def test_what_was_killed_half_way_is_completed(tmp_path, count):
    git(tmp_path, "init", "--quiet")
    for name in WRITTEN[:count]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(profile_text(PROFILES, "tiny") if name == "params.yaml" else template(name))
    (tmp_path / ".dvc.yaml.partial").write_text("stages: {")  # the file that was being written
    done = set_up(tmp_path, "tiny")
    assert (done.written, done.kept, done.lines) == (WRITTEN[count:], (), {})
    assert set(git(tmp_path, "ls-files").split()) == set(WRITTEN)


def test_an_unknown_profile_leaves_nothing(tmp_path):
    with pytest.raises(ParamsError, match="profile tinny: there is no such profile; known: .*digits"):
        set_up(tmp_path / "shop", "tinny")
    assert not (tmp_path / "shop").exists()


def test_a_folder_that_its_repository_ignores_is_refused(tmp_path):
    outer = repository(tmp_path / "outer")
    (outer / ".gitignore").write_text("build/\n")
    with pytest.raises(ParamsError, match=r"build: the git repository around it ignores params.yaml there; choose an"):
        set_up(outer / "build", "tiny")
    assert list((outer / "build").iterdir()) == []


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "shop").touch()
    with pytest.raises(ParamsError, match="shop: is a file; name a folder"):
        set_up(tmp_path / "shop", "tiny")


def test_whom_git_does_not_know_gets_a_first_commit_too(tmp_path, monkeypatch):
    settings = {"commit.gpgsign": "true", "user.useConfigOnly": "true"}
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_COUNT", str(len(settings)))
    for number, (key, value) in enumerate(settings.items()):
        monkeypatch.setenv(f"GIT_CONFIG_KEY_{number}", key)
        monkeypatch.setenv(f"GIT_CONFIG_VALUE_{number}", value)
    set_up(tmp_path, "tiny")
    assert git(tmp_path, "log", "--format=%an %s") == "csd A csd project"


def test_where_git_is_missing_the_line_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ParamsError, match="git is not installed; install it"):
        set_up(tmp_path / "shop", "tiny")
