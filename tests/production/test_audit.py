import json

import pytest

from csd_core.audit.log import AuditLog
from csd_core.system.errors import ArtifactError


@pytest.fixture
def log(tmp_path):
    """Two releases published, a third begun and given up."""
    log = AuditLog(tmp_path / "releases")
    for name in ("0001-a", "0002-b"):
        log.append("begun", by="olga", release=name, why="a reason")
        log.append("built", by="olga", release=name, checksums={name: name * 8})
        log.append("published", by="olga", release=name, checksums={name: name * 8})
    log.append("begun", by="olga", release="0003-c", from_release="0002-b")
    log.append("abandoned", by="olga", release="0003-c", why="it was not fit")
    return log


@pytest.fixture
def lines(log):
    return log.path.read_bytes().splitlines(keepends=True)


def test_each_line_says_who_what_when_and_why_and_nothing_that_does_not_apply(log, lines):
    entry = json.loads(lines[0])
    assert entry.keys() == {"line", "at", "by", "event", "release", "why", "previous"}
    assert entry["at"].endswith("+00:00")
    assert log.read().problems == ()


def test_an_empty_log_has_no_problems(tmp_path):
    trail = AuditLog(tmp_path).read()
    assert (trail.entries, trail.problems, trail.active, trail.open) == ((), (), None, None)


def test_the_log_knows_what_is_in_force_and_what_is_open(log):
    assert log.read().active == "0002-b"
    assert log.read().open is None
    log.append("begun", by="olga", release="0004-d")
    assert log.read().open.release == "0004-d"


def test_the_newest_checksums_of_a_release_count(log):
    log.append("forgot", by="olga", checksums={"0001-a": "new"})
    assert log.read().checksums_of("0001-a") == "new"
    assert log.read().checksums_of("0009-x") is None


@pytest.mark.parametrize("number", range(8))
def test_any_edited_line_is_found(log, lines, number):
    lines[number] = lines[number].replace(b"olga", b"otto")
    log.path.write_bytes(b"".join(lines))
    assert log.read().problems


@pytest.mark.parametrize("number", range(8))
def test_any_removed_line_is_found(log, lines, number):
    del lines[number]
    log.path.write_bytes(b"".join(lines))
    assert log.read().problems


def test_lines_in_another_order_are_found(log, lines):
    lines[3], lines[4] = lines[4], lines[3]
    log.path.write_bytes(b"".join(lines))
    assert any("does not follow" in problem for problem in log.read().problems)


def test_an_inserted_line_is_found(log, lines):
    log.path.write_bytes(b"".join([*lines[:4], lines[3], *lines[4:]]))
    assert any("does not follow" in problem for problem in log.read().problems)


def test_garbage_is_found(log, lines):
    log.path.write_bytes(b"".join([*lines[:4], b"\xff\x00garbage\n", *lines[4:]]))
    assert any("line 5 is no audit entry" in problem for problem in log.read().problems)


@pytest.mark.parametrize("left", range(8))
def test_a_log_that_was_cut_off_at_any_line_is_found_by_its_head(log, lines, left):
    log.path.write_bytes(b"".join(lines[:left]))
    assert f"audit.jsonl has {left} lines, audit.head knows 8: its end was cut off" in log.read().problems


def test_a_missing_head_is_found(log):
    log.path.with_name("audit.head").unlink()
    assert log.read().problems == ("audit.head is missing, though audit.jsonl has 8 lines; restore it",)


def test_a_missing_log_is_found(log):
    log.path.unlink()
    assert log.read().problems == ("audit.jsonl has 0 lines, audit.head knows 8: its end was cut off",)


@pytest.mark.parametrize("head", ["", "many lines", "0 abc", "8 " + "0" * 64, "3 " + "0" * 64])
def test_an_edited_head_is_found(log, head):
    log.path.with_name("audit.head").write_text(head)
    assert log.read().problems


def test_an_old_head_put_back_is_found(log, lines):
    head = log.path.with_name("audit.head")
    old = head.read_bytes()
    for _ in range(2):
        log.append("registered", by="olga", release="0002-b")
    head.write_bytes(old)
    assert any("the head is an old one" in problem for problem in log.read().problems)


def test_a_writer_killed_between_log_and_head_leaves_no_problem(log):
    head = log.path.with_name("audit.head")
    old = head.read_bytes()
    log.append("registered", by="olga", release="0002-b")
    head.write_bytes(old)
    assert log.read().problems == ()
    log.append("registered", by="olga", release="0002-b")
    assert log.read().problems == ()


def test_a_first_writer_killed_before_the_head_leaves_no_problem(tmp_path):
    log = AuditLog(tmp_path)
    log.append("begun", by="olga")
    log.path.with_name("audit.head").unlink()
    assert log.read().problems == ()


def test_a_torn_last_line_is_noted_and_the_next_writer_removes_it(log, lines):
    with log.path.open("ab") as file:
        file.write(lines[-1][:40])
    trail = log.read()
    assert (trail.torn, trail.problems, len(trail.entries)) == (True, (), 8)
    log.append("registered", by="olga", release="0002-b")
    trail = log.read()
    assert (trail.torn, trail.problems, len(trail.entries)) == (False, (), 9)


def test_nothing_is_written_to_a_log_that_was_tampered_with(log, lines):
    log.path.write_bytes(b"".join(lines[:-2]))
    tampered = log.path.read_bytes()
    with pytest.raises(ArtifactError, match=r"its end was cut off; nothing was changed\. Restore it from a backup"):
        log.append("begun", by="olga")
    assert log.path.read_bytes() == tampered


def test_line_breaks_in_a_reason_stay_in_one_line(log):
    log.append("begun", by="olga", why='two\nlines and "quotes"')
    trail = log.read()
    assert trail.problems == ()
    assert trail.entries[-1].why == 'two\nlines and "quotes"'
