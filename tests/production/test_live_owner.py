"""One project writes to a live gallery: another one, or a copy of it, is told whose it is and changes nothing."""

import pytest
from projects import Project, pixels_of

from csd_core.cli import main
from csd_core.releases.publish import publish
from csd_core.releases.rollback import rollback
from csd_core.system.errors import ArtifactError, CompatibilityError


@pytest.fixture
def make(tmp_path):
    def project(name):
        made = Project(tmp_path / name, tasks=("t1", "t2"), images=6, settings={"uri": str(tmp_path / "shared")})
        return made.promote("t1", "none").promote("t2", "adapt")

    return project


def test_another_project_can_neither_publish_nor_write_nor_erase_until_it_takes_over(make, monkeypatch, capsys):
    mine, other = make("mine"), make("other")
    publish(mine.production, task="t1")
    (item,) = mine.put(pixels_of(40, 1, seed=1), "live")
    table = mine.active().table
    refusal = r"belongs to the project at .*:/.*/mine, so nothing was written; .* `csd items take-over"
    attempts = [
        lambda: publish(other.production, task="t1"),
        lambda: other.production.live.delete(table, [item], why="test"),
        lambda: other.production.live.erase([item]),
        other.production.live.sweep,
        lambda: other.production.live.compact(table),
        lambda: other.production.live.drop(table),
        lambda: other.production.live.tag(table, "mine"),
    ]
    for attempt in attempts:
        with pytest.raises(CompatibilityError, match=refusal):
            attempt()
    assert item in mine.rows()
    assert other.production.releases.active() is None
    assert mine.findings() == ()

    monkeypatch.chdir(other.root)
    with pytest.raises(SystemExit, match="0"):
        main(["items", "take-over", "--why", "the other one is given up"])
    assert "before it was" in capsys.readouterr().out
    publish(other.production, task="t1")
    assert other.active() is not None
    with pytest.raises(CompatibilityError, match=r"belongs to the project at .*/other"):
        mine.delete([item])
    assert any("belongs to the project at" in finding for finding in mine.findings())


def test_a_copy_of_a_project_that_published_since_is_told_from_it(make, tmp_path):
    mine = make("mine")
    publish(mine.production, task="t1")
    copy = mine.copied_to(tmp_path / "copy")
    tables = mine.production.live._tables
    catalogue = tables.catalogue()
    elsewhere = catalogue.owner._replace(place="another machine:/not/to/be/seen/from/here")
    tables._put(catalogue._replace(owner=elsewhere).about())
    publish(copy.production, task="t2")
    with pytest.raises(CompatibilityError, match="a copy of this project .* which this audit log does not know"):
        publish(mine.production, task="t2")
    rollback(copy.production, why="test")
    assert copy.findings() == ()


def test_a_copy_beside_its_original_can_write_nothing_even_before_either_publishes(make, tmp_path):
    mine = make("mine")
    publish(mine.production, task="t1")
    copy = mine.copied_to(tmp_path / "copy")
    for attempt in (
        lambda: copy.put(pixels_of(40, 1, seed=1), "live"),
        lambda: copy.delete(["nosuch"]),
        lambda: copy.production.live.erase(["nosuch"]),
        lambda: publish(copy.production, task="t2"),
    ):
        with pytest.raises(CompatibilityError, match=r"belongs to the project at .*/mine, so nothing was written"):
            attempt()
    assert any("belongs to the project at" in finding for finding in copy.findings())
    mine.put(pixels_of(40, 1, seed=1), "live")
    assert mine.findings() == ()


def test_a_project_that_was_moved_writes_on_and_a_copy_of_it_does_not(make, tmp_path):
    mine = make("mine")
    publish(mine.production, task="t1")
    mine.root.rename(tmp_path / "moved")
    moved = Project(tmp_path / "moved", tasks=mine.tasks, images=6)
    moved.put(pixels_of(40, 1, seed=1), "live")
    copy = moved.copied_to(tmp_path / "copy")
    with pytest.raises(CompatibilityError, match=r"belongs to the project at .*/moved"):
        copy.delete(["nosuch"])
    publish(moved.production, task="t2")
    assert moved.findings() == ()


def test_a_project_with_another_path_to_its_folder_is_no_copy(make, tmp_path):
    mine = make("mine")
    publish(mine.production, task="t1")
    (tmp_path / "link").symlink_to(mine.root)
    linked = Project(tmp_path / "link", tasks=mine.tasks, images=6)
    linked.put(pixels_of(40, 1, seed=1), "live")
    mine.put(pixels_of(41, 1, seed=1), "live")
    assert mine.findings() == ()


def test_a_gallery_moves_with_live_uri_and_an_empty_place_is_refused_without_a_trace(make, tmp_path):
    mine = make("mine")
    publish(mine.production, task="t1")
    params = mine.root / "params.yaml"
    params.write_text(params.read_text().replace(str(tmp_path / "shared"), str(tmp_path / "second")))
    with pytest.raises(ArtifactError, match="there is no table"):
        mine.put(pixels_of(40, 1, seed=1), "live")
    (tmp_path / "shared").rename(tmp_path / "second")
    mine.put(pixels_of(40, 1, seed=1), "live")
    publish(mine.production, task="t2")
    assert mine.findings() == ()


def test_a_gallery_that_was_made_before_galleries_had_owners_becomes_the_projects(make):
    mine, other = make("mine"), make("other")
    publish(mine.production, task="t1")
    tables = mine.production.live._tables
    catalogue = tables.catalogue()
    tables._put(
        catalogue._replace(owner=None, newest=catalogue.newest - catalogue.newest.astype("timedelta64[us]")).about()
    )
    with pytest.raises(CompatibilityError, match="none of its 1 tables is of a release of this project"):
        publish(other.production, task="t1")
    mine.delete(["nosuch"])
    assert tables.catalogue().owner == catalogue.owner
    assert tables.catalogue().newest == catalogue.newest
