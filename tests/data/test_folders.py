import os
import socket
import subprocess
from pathlib import Path

import pytest

from csd_core.data.folders import check_folders, pass_over, warnings_of
from csd_core.data.sources.flaws import DEEPEST
from csd_core.data.sources.folder import open_folder
from csd_core.params.sources import FolderSource
from csd_core.system.errors import DataError
from csd_core.system.processes import environment


def folder(path):
    return {"photos": FolderSource(path=str(path), layout="classes")}


def put(path, content=b"x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with one good image."""
    put(tmp_path / "project" / "data" / "raw" / "photos" / "cat" / "1.png")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def odd_entries(root):
    """Fill a folder of images with what people and programs leave there; returns the paths that cannot be hashed."""
    cat = root / "cat"
    (cat / "nothing.png").symlink_to("/nowhere")
    (cat / "circle.png").symlink_to("circle.png")
    (cat / ".#1.png").symlink_to("me@host.1:2")  # an editor's lock
    os.mkfifo(cat / "pipe.png")
    os.mkfifo(cat / "a [1]*? .png ")
    (cat / "linked pipe.png").symlink_to("pipe.png")
    (cat / "zero.png").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as end:
        here = Path.cwd()
        os.chdir(cat)  # a socket's path is short
        end.bind("socket.png")
        os.chdir(here)
    put(cat / os.fsdecode(b"caf\xe9.png"))
    put(root / os.fsdecode(b"dog\xff") / "1.png")
    put(cat / "two\nlines.png")
    put(cat / ".dvcignore")
    deep = cat.joinpath(*["d"] * DEEPEST)
    put(deep / "deep.png")
    return {
        "cat/nothing.png", "cat/circle.png", "cat/.#1.png", "cat/pipe.png", "cat/a [1]*? .png ", "cat/linked pipe.png",
        "cat/zero.png", "cat/socket.png", "cat/caf\udce9.png", "dog\udcff", "cat/two\nlines.png", "cat/.dvcignore",
        f"cat/{'d/' * DEEPEST}deep.png",
    }  # fmt: skip


def test_what_dvc_cannot_hash_is_found_without_opening_a_file(project):
    odd = odd_entries(project / "data" / "raw" / "photos")
    found = check_folders(project, folder("data/raw/photos"))["photos"]
    assert {flaw.path for flaw in found} == odd
    (line,) = warnings_of({"photos": found})
    assert line.startswith("photos: DVC passes over 13 entries that it cannot hash: cat/.#1.png is a link to nothing")
    assert line.endswith("; and 10 more")
    assert line.isprintable()


def test_ingest_rejects_what_dvc_passes_over(project):
    root = project / "data" / "raw" / "photos"
    odd = odd_entries(root)
    source = open_folder(root, "classes")
    assert [file.path for file in source.files] == ["cat/1.png"]
    hidden = {path for path in odd if path.split("/")[-1].startswith(".")}
    assert len(source.rejected) == len(odd - hidden)
    assert dict(source.rejected)["cat/two\\nlines.png"].startswith("has a name that is not UTF-8, or with control")


def test_dvc_watches_the_rest_of_a_folder_with_odd_entries(project):
    root = project / "data" / "raw" / "photos"
    (project / ".dvcignore").write_text("*.pyc")
    stage = "stages: {see: {cmd: 'ls data/raw/photos/cat > seen', deps: [data/raw/photos], outs: [seen]}}\n"
    (project / "dvc.yaml").write_text(stage)
    (project / ".dvc").mkdir()
    (project / ".dvc" / "config").write_text("[core]\n    no_scm = true\n    analytics = false\n")

    def dvc(*arguments):
        command = ["dvc", *arguments]
        done = subprocess.run(
            command, cwd=project, env=environment(), check=False, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    odd_entries(root)
    pass_over(project, folder("data/raw/photos"), check_folders(project, folder("data/raw/photos")))
    dvc("repro")
    assert "up to date" in dvc("status")
    put(root / "cat" / "2.png")
    assert "changed" in dvc("status")


def test_the_list_follows_the_folder_and_leaves_what_people_wrote(project):
    ignore, root = project / ".dvcignore", project / "data" / "raw" / "photos"
    pass_over(project, folder("data/raw/photos"), {})
    assert not ignore.exists()
    ignore.write_text("*.pyc")
    os.mkfifo(root / "cat" / "pipe.png")
    for _ in range(2):
        pass_over(project, folder("data/raw/photos"), check_folders(project, folder("data/raw/photos")))
        lines = ignore.read_text().splitlines()
        assert (lines[0], lines[2:]) == ("*.pyc", ["/data/raw/photos/cat/pipe.png", "# END"])
    (root / "cat" / "pipe.png").unlink()
    pass_over(project, folder("data/raw/photos"), check_folders(project, folder("data/raw/photos")))
    assert ignore.read_text() == "*.pyc\n"


def test_a_folder_outside_of_the_project_is_refused_with_its_odd_entry_and_a_way(project, tmp_path):
    put(tmp_path / "else where" / "cat" / "1.png")
    assert check_folders(project, folder(tmp_path / "else where")) == {}
    os.mkfifo(tmp_path / "else where" / "cat" / "pipe.png")
    with pytest.raises(DataError, match=r"cat/pipe.png is no plain file; remove it; or link the folder into the "):
        check_folders(project, folder(tmp_path / "else where"))
    (project / "data" / "raw" / "linked").symlink_to(tmp_path / "else where")
    flaws = check_folders(project, folder("data/raw/linked"))
    pass_over(project, folder("data/raw/linked"), flaws)
    assert "/data/raw/linked/cat/pipe.png" in (project / ".dvcignore").read_text()


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        (".", "holds the whole project"),
        ("..", "holds the whole project"),
        ("data/..", "holds the whole project"),
        ("/", "holds the whole project"),
        ("data", "holds data/seen, which csd, DVC or git writes; put the images elsewhere"),
        ("data/sources", "lies in data/sources"),
        ("data/sources/photos/", "lies in data/sources"),
        ("artifacts/t1/gallery", "lies in artifacts"),
        (".git", "lies in .git"),
        (".dvc", "lies in .dvc"),
        ("link", "lies in .git"),
        ("report", "lies in report"),
        ("missing", "there is no such folder"),
        ("x" * 300, "there is no such folder"),
        ("dangling", "there is no such folder"),
        ("data/raw/photos/cat/1.png", "is no folder"),
        ("pipe", "is no folder"),
    ],
)
def test_a_path_that_names_no_folder_of_images_is_refused(project, path, complaint):
    (project / ".git").mkdir()
    (project / "link").symlink_to(".git")
    (project / "dangling").symlink_to("nowhere")
    os.mkfifo(project / "pipe")
    with pytest.raises(DataError, match=rf"params.yaml: sources.folders.photos.path: .*: {complaint}") as caught:
        check_folders(project, folder(path))
    assert "\n" not in str(caught.value)
    absolute = os.path.normpath(project / path)
    with pytest.raises(DataError, match=complaint):
        check_folders(project, folder(absolute))


@pytest.mark.parametrize(
    "path", ["data/raw/photos", "data/raw/photos/", "./data//raw/photos", "data/raw/a b#c:d", "data/raw/${x}", "./~x"]
)
def test_other_paths_are_fine(project, path):
    (project / path / "cat").mkdir(parents=True, exist_ok=True)
    assert check_folders(project, folder(path)) == {}


def test_a_project_of_dvc_in_a_folder_is_refused_for_dvc_would_not_watch_it(project):
    (project / "data" / "raw" / "photos" / "cat" / ".dvc").mkdir()
    with pytest.raises(DataError, match=r"cat/.dvc makes DVC take the folder that holds it for another project"):
        check_folders(project, folder("data/raw/photos"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_passed_over(project):
    root = project / "data" / "raw" / "photos"
    put(root / "cat" / "2.png")
    (root / "cat" / "2.png").chmod(0)
    (root / "dog").mkdir(mode=0)
    assert [flaw.path for flaw in check_folders(project, folder("data/raw/photos"))["photos"]] == ["cat/2.png", "dog"]
