"""`csd backfill`, as a person runs it."""

import pytest
from projects import Project, pixels_of

from csd_core import cli
from csd_core.commands.production.releases import releases
from csd_core.releases.publish import publish


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project in the current folder that serves rows of two models; one row has no image."""
    project = Project(tmp_path / "project", tasks=("t1", "t2"))
    project.promote("t1", "none").promote("t2", "keep")
    publish(project.production, task="t1")
    project.bare = project.put(pixels_of(40, 1, seed=1), "bare", keep_images=False)
    publish(project.production)
    monkeypatch.chdir(project.root)
    monkeypatch.setattr("csd_core.system.console.console.width", 250)
    return project


def run(*arguments):
    """Exit code of the command line."""
    with pytest.raises(SystemExit) as stopped:
        cli.main(["backfill", *arguments])
    return stopped.value.code or 0


def test_it_says_what_is_in_force_now_and_which_rows_it_had_to_leave(project, capsys):
    assert run("--why", "the rest", "--by", "olga", "--workers", "2", "--max-rows-per-second", "100000") == 0
    told = capsys.readouterr().out
    release = project.active()
    assert f"backfilled: release {release.name} is active: 97 rows" in told
    assert f"{project.bare[0]}: has neither an image nor a reference to one" in told
    assert (release.record.by, release.record.why) == ("olga", "the rest")
    releases()
    *_, line = capsys.readouterr().out.splitlines()
    assert line.split()[:5] == ["3", "yes", release.record.model[:8], "backfill", "97"]


def test_it_says_that_there_is_nothing_to_do(project, capsys):
    run("--why", "the rest")
    capsys.readouterr()
    assert run("--why", "again") == 0
    name = project.active().name
    told = capsys.readouterr().out
    assert told == f"Nothing to do: every row of release {name} that has an image is its model's own.\n"


def test_what_is_wrong_is_one_line(project, capsys):
    assert run("--why", "the rest", "--workers", "0") == 2
    assert capsys.readouterr().err == "workers is 0, it must be at least 1\n"
    (project.root / "releases" / "current").unlink()
    assert run("--why", "the rest") == 4
    assert capsys.readouterr().err.startswith("no release is active, so there is no gallery to backfill")


def test_a_person_says_why(project, capsys):
    assert run() != 0
    assert "why" in "".join(capsys.readouterr())
