import pytest
from senders import inbox_batch, retraining, taken

from csd_core.retraining.history import find, retrainings, settled
from csd_core.system.errors import ArtifactError, ParamsError
from csd_core.workspace import Workspace

BASE = "b" * 40


@pytest.fixture
def files(tmp_path):
    return Workspace(tmp_path)


def saved(files, *records):
    for record in records:
        record.save_to(files)


def test_before_the_first_retraining_there_are_none(files):
    assert retrainings(files) == ()
    assert settled(files, base=BASE, inbox_batches=[inbox_batch()], settings=None) is None


def test_retrainings_are_read_back_oldest_first(files):
    first = retraining("z", began="2026-11-19T12:00:00+00:00")
    second, third = retraining("a"), retraining("b", release="0001-aaaaaaaaaaaa", deadline="2026-11-27T12:00:00+00:00")
    saved(files, third, second, first)
    assert retrainings(files) == (first, second, third)


def test_a_record_that_is_being_written_is_none(files):
    saved(files, retraining("a"))
    files.retraining("a").with_name(".b.json").write_text("half")
    files.retraining("a").with_name(".b.json.partial").write_text("half")
    assert [record.name for record in retrainings(files)] == ["a"]


def test_a_damaged_record_is_named(files):
    saved(files, retraining("a"))
    files.retraining("a").write_text('{"name": "a"}')
    with pytest.raises(
        ArtifactError, match=r"retrainings/a.json: not a Retraining \(.*restore it from a backup, or rem"
    ):
        retrainings(files)


def test_a_record_under_another_name_is_refused(files):
    saved(files, retraining("a"))
    files.retraining("a").rename(files.retraining("copy"))
    with pytest.raises(ArtifactError, match=r"copy.json: is the record of retraining a; name it a.json"):
        retrainings(files)


def test_a_retraining_is_found_by_name_or_branch(files):
    first, second = retraining("a", branch="shared"), retraining("b", branch="shared")
    saved(files, first, second)
    assert find(files, "a") == first
    assert find(files, "shared") == second


def test_an_unknown_retraining_lists_those_in_review(files):
    with pytest.raises(ParamsError, match="retraining x: there is no such retraining; in review: none"):
        find(files, "x")
    saved(files, retraining("a", outcome="in review"), retraining("b"), retraining("c", outcome="in review"))
    with pytest.raises(ParamsError, match="in review: a, c$"):
        find(files, "../params")


def test_the_newest_retraining_of_just_these_batches_settles_them(files):
    old = retraining("z", began="2026-11-19T12:00:00+00:00")
    new = retraining("a", batches=(taken("b2"), taken("b1")), outcome="kept")
    newest = retraining("n", began="2026-11-21T12:00:00+00:00")
    saved(files, old, new, newest)
    assert settled(files, base=BASE, inbox_batches=[inbox_batch()], settings=None) == newest
    assert settled(files, base=BASE, inbox_batches=[inbox_batch("b1"), inbox_batch("b2")], settings=None) == new


@pytest.mark.parametrize(
    ("base", "inbox_batches"),
    [
        ("d" * 40, [inbox_batch()]),
        (BASE, [inbox_batch(digest="d2")]),
        (BASE, [inbox_batch("b2")]),
        (BASE, [inbox_batch("b1"), inbox_batch("b2")]),
        (BASE, []),
    ],
)
def test_another_start_or_other_batches_are_not_settled(files, base, inbox_batches):
    saved(files, retraining())
    assert settled(files, base=base, inbox_batches=inbox_batches, settings=None) is None


def test_a_review_settles_its_batches_while_it_waits(files):
    review = retraining("b", began="2026-11-21T12:00:00+00:00", outcome="in review")
    saved(files, retraining("a"), review)
    assert settled(files, base=BASE, inbox_batches=[inbox_batch()], settings=None) == review


def test_other_settings_are_another_try_and_none_asks_for_any(files):
    before = retraining("a", outcome="rejected")
    saved(files, before)
    assert settled(files, base=BASE, inbox_batches=[inbox_batch()], settings="e" * 64) == before
    assert settled(files, base=BASE, inbox_batches=[inbox_batch()], settings="f" * 64) is None
    assert settled(files, base=BASE, inbox_batches=[inbox_batch()], settings=None) == before


def test_a_run_that_died_has_settled_nothing(files):
    saved(files, retraining("a", outcome="unfinished"))
    assert settled(files, base=BASE, inbox_batches=[inbox_batch()], settings=None) is None
