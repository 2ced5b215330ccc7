import pytest
from projects import Project, pixels_of

from csd_core.commands.production.releases import publish as publish_command
from csd_core.commands.production.releases import releases as releases_command
from csd_core.commands.production.releases import rollback as rollback_command
from csd_core.commands.production.releases import verify as verify_command
from csd_core.releases.contents import golden_queries as known
from csd_core.releases.publish import publish
from csd_core.releases.rollback import rollback
from csd_core.releases.store import Releases
from csd_core.releases.verify import verify
from csd_core.system.errors import ArtifactError, CompatibilityError, ParamsError


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """Four tasks, two of them published; the two newest releases are kept."""
    project = Project(
        tmp_path_factory.mktemp("template") / "project",
        tasks=("t1", "t2", "t3", "t4"),
        images=30,
        settings={"keep_releases": 2},
    )
    project.promote("t1", "none").promote("t2", "keep").promote("t3", "adapt").promote("t4", "backfill")
    publish(project.production, task="t1", by="olga", why="the first")
    publish(project.production, task="t2", by="otto", why="better")
    return project


@pytest.fixture
def project(template, tmp_path):
    return template.copied_to(tmp_path / "project")


def test_before_the_first_release_nothing_is_in_force(tmp_path):
    releases = Releases(tmp_path / "releases")
    assert (releases.active(), releases.all(), releases.pointer()) == (None, (), None)
    assert not (tmp_path / "releases").exists()


def test_a_release_says_which_rows_its_model_may_search_and_refuses_other_models(project):
    release = project.active()
    first = project.production.releases.get(1)
    assert release.searchable_spaces == (first.record.model, release.record.model)
    assert release.spaces_for(release.record.model) == release.searchable_spaces
    with pytest.raises(
        CompatibilityError, match=r"model \w+ may not search its gallery; embed queries with \w+ \(fp32\)"
    ):
        release.spaces_for(first.record.model)


def test_releases_are_ordered_by_number_and_found_by_it(project):
    releases = project.production.releases
    assert [release.number for release in releases.all()] == [1, 2]
    assert releases.get(2).name == releases.active().name
    with pytest.raises(ArtifactError, match=r"release 5: there is no such release \(there are: 1, 2\)"):
        releases.get(5)


# --- retention --------------------------------------------------------------------------------------------------------


def test_older_releases_keep_their_records_and_lose_table_and_model(project):
    publish(project.production, task="t3")
    production = project.production
    first, second, third = production.releases.all()
    assert {path.name for path in first.folder.iterdir()} == {
        "release.json",
        "verdict.json",
        "check.json",
        "params.yaml",
        "checksums.json",
    }
    assert set(production.live.tables()) == {second.table, third.table}
    assert [production.releases.is_retired(release) for release in (first, second, third)] == [True, False, False]
    assert project.findings() == ()


def test_a_retired_releases_records_are_still_verified(project):
    publish(project.production, task="t3")
    verdict = project.production.releases.get(1).folder / "verdict.json"
    verdict.write_text(verdict.read_text().replace("better", "worse!"))
    (line,) = project.findings()
    assert "verdict.json was changed" in line
    verdict.unlink()
    (line,) = project.findings()
    assert "verdict.json is missing" in line


def test_the_release_in_force_needs_no_retired_one(project):
    for task in ("t3", "t4"):
        publish(project.production, task=task)
    assert project.findings() == ()
    assert project.search(pixels_of(0, 2, seed=0), k=2).labels.tolist() == [["t1-a"] * 2] * 2
    rollback(project.production, why="worse")
    assert project.findings() == ()


def test_a_retirement_that_was_interrupted_is_completed_by_the_next(project):
    publish(project.production, task="t3")
    first = project.production.releases.get(1)
    (first.folder / "known").mkdir()
    (first.folder / "known" / "images.npy").write_bytes(b"left by a killed run")
    publish(project.production, task="t4")
    assert not (first.folder / "known").exists()


# --- erasure ----------------------------------------------------------------------------------------------------------


def erased(project, ids):
    production = project.production
    report = production.live.erase(ids)
    return production.releases.forget(ids, tagged=report.tagged, why="the person asked")


def known_items(release):
    _, record = known.load(release.folder / "known")
    return record


def test_erased_items_leave_the_known_queries_of_every_release(project, files_with):
    first, second = project.production.releases.all()
    ids = [query.item for query in known_items(first).queries[:2]]
    changed = erased(project, ids)
    assert changed == (first.name, second.name)
    for release in project.production.releases.all():
        record = known_items(release)
        assert not {query.item for query in record.queries} & set(ids)
        assert not {identity for query in record.queries for identity in query.ids} & set(ids)
        assert record.queries
    for identity in ids:
        assert files_with(project.root / "releases", identity.encode()) == []
        image = project.pool("t1").images(project.pool("t1").positions([identity]))
        assert files_with(project.root / "releases", image.tobytes()) == []
    assert project.findings() == ()
    entry = project.production.releases.audit.read().entries[-1]
    assert (entry.event, entry.why, len(entry.items)) == ("forgot", "the person asked", 2)


def test_after_an_erasure_the_releases_can_be_rolled_back_and_published(project):
    ids = sorted(project.rows())[:1]
    erased(project, ids)
    rollback(project.production, why="worse")
    assert not project.rows().keys() & set(ids)
    publish(project.production, task="t2")
    assert not project.rows().keys() & set(ids)
    assert project.findings() == ()


def test_erasing_what_no_known_query_names_changes_the_recorded_rows_only(project):
    release = project.active()
    named = {each for query in known_items(release).queries for each in (query.item, *query.ids)}
    other = next(identity for identity in sorted(project.rows()) if identity not in named)
    before = (release.folder / "known" / "images.npy").read_bytes()
    erased(project, [other])
    assert (release.folder / "known" / "images.npy").read_bytes() == before
    assert project.active().record.rows == release.record.rows - 1
    assert project.findings() == ()


def test_an_erasure_does_not_hide_that_a_file_was_changed(project):
    release = project.active()
    record = release.folder / "release.json"
    record.write_text(record.read_text().replace("better", "worse!"))
    erased(project, sorted(project.rows())[:1])
    assert any("release.json was changed" in line or "release.json has" in line for line in project.findings())


def test_an_interrupted_erasure_is_completed_by_the_next_publish(project):
    production = project.production
    ids = [query.item for query in known_items(project.active()).queries[:1]]
    production.live.erase(ids)
    items = tuple(known.hash_of(identity) for identity in ids)
    production.releases.audit.append("forgetting", by="olga", items=items, why="the person asked")
    assert any("erasure was interrupted" in note for note in verify(production.releases, production.live).notes)
    publish(production, task="t3")
    assert project.findings() == ()
    assert all(query.item not in ids for query in known_items(production.releases.get(2)).queries)


def test_an_erasure_that_ended_among_the_files_of_a_release_is_completed_by_a_second_one(project, monkeypatch):
    ids = [query.item for query in known_items(project.active()).queries[:1]]
    with monkeypatch.context() as full, pytest.raises(OSError, match="No space"):
        full.setattr("csd_core.releases.store.sum_again", failing)
        erased(project, ids)
    assert project.findings()
    erased(project, ids)
    assert project.findings() == ()
    rollback(project.production, why="worse")
    assert project.findings() == ()


def failing(*_):
    raise OSError(28, "No space left on device")


def test_forgetting_without_releases_does_nothing(tmp_path):
    assert Releases(tmp_path / "releases").forget(["an item"]) == ()
    assert not (tmp_path / "releases" / "audit.jsonl").exists()


# --- commands ---------------------------------------------------------------------------------------------------------


def test_the_commands_publish_verify_list_and_roll_back(project, monkeypatch, capsys):
    monkeypatch.chdir(project.root)
    monkeypatch.setattr("csd_core.system.console.console.width", 200)
    publish_command(task="t3", why="new classes", by="olga")
    assert "published: release 0003-" in capsys.readouterr().out
    publish_command(task="t3")
    assert "Nothing to do: release 0003-" in capsys.readouterr().out
    verify_command(every=True)
    told = capsys.readouterr().out
    assert "as made; audit log: " in told
    assert project.production.releases.audit.read().last in told
    rollback_command(why="complaints", by="otto")
    assert "rolled back to release 2: release 0004-" in capsys.readouterr().out
    releases_command()
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 5
    assert lines[1].split()[:2] == ["1", "retired"]
    assert lines[4].split()[:2] == ["4", "yes"]
    assert "rollback to 2" in lines[4]
    assert "new classes" in lines[3]


def test_verify_tells_one_line_for_each_finding_and_exits_with_4(project, monkeypatch):
    monkeypatch.chdir(project.root)
    (project.active().folder / "verdict.json").unlink()
    (project.root / "releases" / "stray").touch()
    with pytest.raises(ArtifactError) as error:
        verify_command()
    assert error.value.exit_code == 4
    assert len(str(error.value).splitlines()) == 2


def test_verify_takes_a_release_or_all_but_not_both(project, monkeypatch, capsys):
    monkeypatch.chdir(project.root)
    verify_command(1)
    assert capsys.readouterr().out.startswith(project.production.releases.names()[0])
    with pytest.raises(ParamsError, match="csd verify 1 --all: name a release or ask for all, not both"):
        verify_command(1, every=True)


def test_before_the_first_release_the_list_says_how_to_make_one(tmp_path, monkeypatch, capsys):
    project = Project(tmp_path / "project", tasks=("t1",))
    monkeypatch.chdir(project.root)
    releases_command()
    assert capsys.readouterr().out == "There is no release yet; `csd publish` makes the first.\n"
