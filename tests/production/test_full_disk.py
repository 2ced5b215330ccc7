"""Every command that changes a project, on a disk that fills at one step or another."""

import hashlib
import shutil
from pathlib import Path

import pytest
from PIL import Image
from projects import Project, pixels_of
from small_disks import AMOUNTS, only_free, small_disk

from csd_core.cli import main
from csd_core.releases.publish import publish

PROFILES = Path(__file__).parents[2] / "csd_core" / "project" / "profiles"
COMMANDS = {
    "publish": ("first", "publish"),
    "rollback": ("second", "rollback 1 --why test"),
    "backfill": ("second", "backfill --why test"),
    "put": ("second", "items put new.png --label live --id new"),
    "delete": ("second", "items delete ITEM"),
    "erase": ("second", "items erase ITEM"),
    "compact": ("second", "items compact"),
    "take-over": ("second", "items take-over --why test"),
    "tasks": ("second", "tasks add t3 --source digits --classes 8,9"),
    "profile": ("second", "profile use tiny --force"),
}
"""Command -> the project that it changes, and its words; ITEM is an item that a person wrote."""
FILES = ("tasks", "profile")
"""Commands that change params.yaml and nothing else."""
UNCLEAN = ("erase",)
"""Where it was interrupted, the releases' records may tell of the item until it is done again; verify says so."""


@pytest.fixture(scope="module")
def templates(tmp_path_factory):
    root = tmp_path_factory.mktemp("templates")
    first = Project(root / "first", tasks=("t1", "t2"), images=6).promote("t1", "none").promote("t2", "adapt")
    shutil.copytree(PROFILES, first.root / "profiles")
    Image.fromarray(pixels_of(44, 1, seed=1)[0, :, :, 0]).save(first.root / "new.png")
    publish(first.production, task="t1")
    (first.item, *_) = first.put(pixels_of(40, 3, seed=1), "live")
    second = first.copied_to(root / "second")
    second.item = first.item
    publish(second.production)
    return {"first": first, "second": second}


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "disk", megabytes=48) as mounted:
        if not mounted:
            pytest.skip("a small disk is mounted, which root alone may do")
        yield tmp_path / "disk"


@pytest.fixture
def csd(capsys, monkeypatch):
    """(folder, words) -> exit code and what the command says of errors."""

    def run(folder, words):
        monkeypatch.chdir(folder)
        capsys.readouterr()
        try:
            main(words)
        except SystemExit as ended:
            return ended.code or 0, capsys.readouterr().err
        return 0, capsys.readouterr().err

    return run


def state(project, item):
    """What a command that fails must leave: what is active, all other rows, the releases, params.yaml."""
    live, releases = project.production.live, project.production.releases
    tagged = {}
    for release in releases.all():
        rows = live.rows(release.table, version=release.tag, columns=["id", "revision"]).to_pylist()
        tagged[release.name] = sorted((row["id"], row["revision"]) for row in rows if row["id"] != item)
    rows = {each: row["revision"] for each, row in project.rows().items() if each != item}
    params = hashlib.sha256((project.root / "params.yaml").read_bytes()).hexdigest()
    return releases.pointer(), tagged, rows, params, project.search(pixels_of(40, 1, seed=1), k=1).labels.tolist()


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk_is_one_line_and_the_command_succeeds_once_there_is_room(templates, disk, csd, command):
    name, words = COMMANDS[command]
    template = templates[name]
    item = template.item if "ITEM" in words else None
    words = words.replace("ITEM", template.item).split()
    before = state(template, item)
    failed = 0
    for amount in AMOUNTS:
        project = template.copied_to(disk / f"{command}-{amount}")
        with only_free(disk, amount):
            code, told = csd(project.root, words)
            if code == 0:
                break
            failed += 1
            assert (code, told.count("\n")) == (1, 1), (amount, told)
            assert "No space left on device" in told, (amount, told)
            assert "make room and try again" in told, (amount, told)
            assert state(project, item) == before, amount
            if command not in UNCLEAN:
                assert csd(project.root, ["verify", "--all"]) == (0, ""), amount
        assert csd(project.root, words) == (0, ""), amount
        assert csd(project.root, ["verify", "--all"]) == (0, ""), amount
        assert item not in project.rows()
        shutil.rmtree(project.root)
    assert code == 0, told
    assert failed >= (1 if command in FILES else 2)
