"""`csd backfill`, as a person runs it."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from projects import Project, pixels_of

from csd_core import cli
from csd_core.commands.production.releases import releases
from csd_core.records.check import CheckReport
from csd_core.releases.backfill.announcement import expected_in_words
from csd_core.releases.contents.release import CHECK
from csd_core.releases.publish import publish

RECORDED = Path(__file__).parents[1] / "comparison/recorded/artifacts/t2/check.json"


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


def test_it_says_before_it_starts_which_rows_it_cannot_re_embed(project, capsys):
    assert run("--why", "the rest") == 0
    told = capsys.readouterr().out
    before = told[: told.index("backfilled: release")]
    assert "1 of the 49 rows that other models made have no image that can be read" in before
    assert before.index("have no image that can be read") < before.index(f"  {project.bare[0]}: has neither an image")
    assert "the check of" not in told  # this project's check measured no way to serve the candidate


@pytest.mark.parametrize("strategy", ["adapt", "keep"])
def test_it_says_what_the_check_measured_of_a_whole_backfill(strategy, tmp_path):
    report = CheckReport.load(RECORDED)
    report.save(tmp_path / CHECK)
    told = expected_in_words(SimpleNamespace(folder=tmp_path, record=SimpleNamespace(strategy=strategy)))
    found = {each.strategy: each.measured.overall.at[1] for each in report.alternatives if each.measured}
    assert found[strategy] < found["backfill"]
    assert told == (
        f"the check of t2 measured Recall@1 {100 * found[strategy]:.1f} % under {strategy} and "
        f"{100 * found['backfill']:.1f} % after a backfill of every row, on gate queries over the pipeline's rows"
    )


@pytest.mark.parametrize("strategy", ["none", "partial", "backfill"])
def test_it_says_nothing_of_what_the_check_did_not_compare(strategy, tmp_path):
    CheckReport.load(RECORDED).save(tmp_path / CHECK)
    assert expected_in_words(SimpleNamespace(folder=tmp_path, record=SimpleNamespace(strategy=strategy))) == ""


def test_a_backfill_that_the_check_found_worse_than_what_is_served_is_said_to_be(tmp_path):
    report = CheckReport.load(RECORDED)
    ways = {each.strategy: each for each in report.alternatives}
    worse = ways["backfill"].model_copy(update={"strategy": "merge"})
    low = ways["keep"].model_copy(update={"strategy": "backfill"})
    report.model_copy(update={"alternatives": (worse, low)}).save(tmp_path / CHECK)
    told = expected_in_words(SimpleNamespace(folder=tmp_path, record=SimpleNamespace(strategy="merge")))
    assert told.endswith("; `csd rollback` returns to the higher one")


def test_it_says_that_there_is_nothing_to_do(project, capsys):
    run("--why", "the rest")
    capsys.readouterr()
    assert run("--why", "again") == 0
    name = project.active().name
    told = capsys.readouterr().out
    first, row, last = told.splitlines()
    assert first.startswith("1 of the 1 rows that other models made have no image that can be read")
    assert row == f"  {project.bare[0]}: has neither an image nor a reference to one"
    assert last == f"Nothing to do: every row of release {name} that has an image is its model's own."


def test_what_is_wrong_is_one_line(project, capsys):
    assert run("--why", "the rest", "--workers", "0") == 2
    assert capsys.readouterr().err == "workers is 0, it must be at least 1\n"
    (project.root / "releases" / "current").unlink()
    assert run("--why", "the rest") == 4
    assert capsys.readouterr().err.startswith("no release is active, so there is no gallery to backfill")


def test_a_person_says_why(project, capsys):
    assert run() != 0
    assert "why" in "".join(capsys.readouterr())
