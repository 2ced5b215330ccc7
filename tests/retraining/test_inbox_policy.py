from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from senders import NOON, inbox_batch, policy, retraining, taken

from csd_core.retraining.policy import Due, Waiting, batch_status, decide


def decided(*inbox_batches, known=("cat",), now=NOON, **changes):
    return decide(inbox_batches, known_classes=known, policy=policy(**changes), now=now)


# --- when a task is due -----------------------------------------------------------------------------------------------


def test_an_empty_inbox_waits():
    assert decided() == Waiting(why="nothing waits")
    assert decided(max_wait_days=0) == Waiting(why="nothing waits")


@pytest.mark.parametrize(("images", "due"), [(199, False), (200, True), (201, True)])
def test_a_task_is_due_from_the_last_missing_image_on(images, due):
    assert isinstance(decided(inbox_batch(images=images)), Due) is due


def test_a_due_task_takes_every_batch_that_waits():
    first, second = inbox_batch("b1", images=150), inbox_batch("b2", images=190, classes={"owl": 100, "fox": 90})
    assert decided(first, second) == Due(
        inbox_batches=(first, second),
        new_classes=("fox", "owl"),
        why="340 of 200 images wait, 2 new classes (fox, owl)",
    )


@pytest.mark.parametrize(("new", "due"), [(1, False), (2, True)])
def test_images_alone_are_not_enough_where_new_classes_are_asked_for(new, due):
    classes = {"cat": 300} | dict.fromkeys(["fox", "owl"][:new], 1)
    assert isinstance(decided(inbox_batch(classes=classes), min_new_classes=2), Due) is due


def test_what_is_missing_is_said_with_figures_and_a_date():
    assert decided(inbox_batch(images=120)).why == "120 of 200 images wait; a task is cut on 2026-11-27 at the latest"
    assert decided(inbox_batch(classes={"cat": 300, "fox": 1}), min_new_classes=3).why == (
        "301 of 200 images wait, 1 of 3 new classes (fox); a task is cut on 2026-11-27 at the latest"
    )
    assert decided(inbox_batch(images=300), min_new_classes=1, max_wait_days=None).why == (
        "300 of 200 images wait, 0 of 1 new class; how long they wait does not matter"
    )


def test_of_many_new_classes_the_first_are_named_in_natural_order():
    many = inbox_batch(classes={f"c{number}": 30 for number in range(12)})
    assert decided(many).why == "360 of 200 images wait, 12 new classes (c0, c1, c2, c3, c4 and 7 more)"


def test_a_known_class_is_known_however_its_accents_are_spelt():
    assert decided(inbox_batch(classes={"caf\u00e9": 300}), known=("cafe\u0301",)).new_classes == ()


@pytest.mark.parametrize(("seconds", "due"), [(-1, False), (0, True), (1, True)])
def test_the_oldest_batch_waits_no_longer_than_allowed(seconds, due):
    batches = inbox_batch("b1", images=1, since=NOON + timedelta(days=3)), inbox_batch("b2", images=1)
    now = NOON + timedelta(days=7, seconds=seconds)
    assert isinstance(decided(*batches, now=now), Due) is due


def test_a_task_that_is_due_by_age_says_which_batch_is_so_old():
    found = decided(inbox_batch("old", images=1), now=NOON + timedelta(days=8))
    assert found.why == "1 of 200 images wait, and batch old has waited 8.0 days (7 at most)"


def test_no_wait_at_all_is_due_even_if_the_senders_clock_is_ahead():
    assert isinstance(decided(inbox_batch(images=1, since=NOON + timedelta(hours=1)), max_wait_days=0), Due)


@pytest.mark.parametrize("days", [None, 1e12, float("inf")])
def test_a_wait_beyond_the_calendar_is_none(days):
    found = decided(inbox_batch(images=1), max_wait_days=days, now=NOON + timedelta(days=4000))
    assert found == Waiting(why="1 of 200 images wait; how long they wait does not matter")


BATCHES = st.lists(
    st.builds(
        lambda classes, days: inbox_batch(classes=classes, since=NOON - timedelta(days=days)),
        st.dictionaries(st.sampled_from(["cat", "dog", "fox", "owl"]), st.integers(1, 200), min_size=1),
        st.floats(-1, 10),
    ),
    max_size=4,
)
POLICIES = st.builds(
    policy,
    min_images=st.integers(1, 500),
    min_new_classes=st.integers(0, 4),
    max_wait_days=st.none() | st.floats(0, 10),
)


@settings(max_examples=200)
@given(waiting=BATCHES, more=BATCHES, rules=POLICIES, days=st.floats(0, 5))
def test_more_images_and_more_time_never_put_a_task_off(waiting, more, rules, days):
    before = decide(waiting, known_classes=("cat",), policy=rules, now=NOON)
    after = decide([*waiting, *more], known_classes=("cat",), policy=rules, now=NOON + timedelta(days=days))
    assert isinstance(after, Due) or not isinstance(before, Due)


# --- how a batch stands -----------------------------------------------------------------------------------------------


def stands(batch, *, by_task=(), reviews=()):
    found = batch_status(batch, taken={each.name: ("t4", each) for each in by_task}, reviews=reviews)
    assert found.inbox_batch == batch
    return found.state, found.words


def test_a_ready_batch_waits_and_its_time_is_in_utc():
    east = datetime(2026, 11, 20, 14, tzinfo=timezone(timedelta(hours=2)))
    assert stands(inbox_batch(since=east)) == ("waits", "waits since 2026-11-20 12:00")


def test_a_batch_without_its_marker_is_half_written_whatever_else_is_wrong():
    assert stands(inbox_batch(since=None)) == ("half-written", "half-written: it has no _READY yet")
    assert stands(inbox_batch(since=None, problems=["holds no images"])) == (
        "half-written",
        "half-written: it has no _READY yet; as it is, it cannot be taken: holds no images",
    )


def test_a_ready_batch_with_problems_is_unusable():
    assert stands(inbox_batch(problems=["one", "two"])) == ("unusable", "unusable: one; two")


def test_a_batch_that_a_task_took_is_taken():
    assert stands(inbox_batch(), by_task=[taken()]) == ("taken", "taken: task t4 took it")


def test_a_taken_batch_may_be_cleared_away():
    gone = replace(inbox_batch(), classes={}, digest="nothing", problems=("holds no images",))
    words = "taken: task t4 took it, and its images are gone from the inbox"
    assert stands(gone, by_task=[taken()]) == ("taken", words)


def test_a_taken_batch_that_changed_asks_for_a_new_name():
    assert stands(inbox_batch(digest="d2"), by_task=[taken()]) == (
        "changed",
        "changed since task t4 took it; put new images into a batch with a new name",
    )


def test_a_batch_under_review_waits_for_a_person():
    review = retraining("r1", outcome="in review")
    assert stands(inbox_batch(), reviews=[review]) == ("in review", "in review: retraining r1 took it")
    assert stands(inbox_batch(digest="d2"), reviews=[review])[1].startswith("changed since retraining r1 took it;")


def test_a_retraining_that_has_ended_holds_no_batch():
    for outcome in ("published", "kept", "rejected", "refused", "outdated"):
        assert stands(inbox_batch(), reviews=[retraining(outcome=outcome)])[0] == "waits"
