"""When the batches that wait become a task, and what stands in the way of each other batch. Pure."""

import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from csd_core import params
from csd_core.data.classes import natural_key
from csd_core.operations.cuts import TakenBatch
from csd_core.operations.inbox import READY, Arrival
from csd_core.operations.retrainings import Retraining

SHOWN = 5
"""Names in a sentence."""
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A task is to be cut.

    Attributes:
        arrivals: Its batches.
        new_classes: Classes that no task has yet, in natural order.
        why: A sentence with figures.
    """

    arrivals: tuple[Arrival, ...]
    new_classes: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """No task is to be cut yet.

    Attributes:
        why: A sentence with figures.
    """

    why: str


def decide(
    arrivals: Sequence[Arrival], *, known_classes: Collection[str], policy: params.Inbox, now: datetime
) -> Due | Waiting:
    """Return whether a task is to be cut.

    Args:
        arrivals: The batches that wait: ready, usable, neither taken nor in review.
        known_classes: That tasks have already.
        policy: When it is.
        now: Aware.
    """
    if not arrivals:
        return Waiting(why="nothing waits")
    new = new_classes(arrivals, known_classes)
    images = sum(arrival.images for arrival in arrivals)
    figures = f"{images:,} of {policy.min_images:,} images wait{_classes_in_words(new, policy.min_new_classes)}"
    if images >= policy.min_images and len(new) >= policy.min_new_classes:
        return Due(arrivals=tuple(arrivals), new_classes=new, why=figures)
    if policy.max_wait_days is None:
        return Waiting(why=f"{figures}; how long they wait does not matter")
    since, oldest = min((arrival.ready_since or now, arrival.name) for arrival in arrivals)
    waited = max(0.0, (now - since) / _DAY)  # the clocks of sender and receiver may differ
    if waited >= policy.max_wait_days:
        limit = f"{policy.max_wait_days:g} at most"
        why = f"{figures}, and batch {oldest} has waited {waited:.1f} days ({limit})"
        return Due(arrivals=tuple(arrivals), new_classes=new, why=why)
    return Waiting(why=f"{figures}; {_deadline(since, policy.max_wait_days)}")


def new_classes(arrivals: Collection[Arrival], known: Collection[str]) -> tuple[str, ...]:
    """Return classes of batches that no task has yet, in natural order."""
    had = {unicodedata.normalize("NFC", label) for label in known}
    return tuple(sorted({label for arrival in arrivals for label in arrival.classes} - had, key=natural_key))


def named(names: Sequence[str]) -> str:
    """Return the first few names, and how many more there are."""
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _classes_in_words(new: Sequence[str], wanted: int) -> str:
    if not new and not wanted:
        return ""
    of = f" of {wanted}" if len(new) < wanted else ""
    plural = "" if (wanted if of else len(new)) == 1 else "es"
    return f", {len(new)}{of} new class{plural}" + (f" ({named(new)})" if new else "")


def _deadline(since: datetime, days: float) -> str:
    try:
        return f"a task is cut on {(since + timedelta(days=days)).astimezone(UTC):%Y-%m-%d} at the latest"
    except OverflowError:  # a limit beyond the calendar is none
        return "how long they wait does not matter"


State = Literal["half-written", "unusable", "taken", "changed", "in review", "waits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a batch stands.

    Attributes:
        arrival: The batch.
        state: For programs; only those that wait become part of a task.
        words: For people.
    """

    arrival: Arrival
    state: State
    words: str


def standing(
    arrival: Arrival,
    *,
    taken: Mapping[str, tuple[str, TakenBatch]],
    reviews: Sequence[Retraining],
    unusable: str | None = None,
) -> Standing:
    """Return how a batch stands.

    Args:
        arrival: The batch.
        taken: Batch -> task that took it, and how it was then.
        reviews: The retrainings that wait for a person; finished ones among them do not count.
        unusable: Why an earlier run could not use it as it is.
    """
    in_review = {
        batch.name: (review.name, batch)
        for review in reviews
        if review.outcome == "in review"
        for batch in review.batches
    }
    if arrival.name in taken:
        task, then = taken[arrival.name]
        state, words = _known(arrival, then, "taken", f"task {task}")
    elif arrival.name in in_review:
        review_name, then = in_review[arrival.name]
        state, words = _known(arrival, then, "in review", f"retraining {review_name}")
    else:
        state, words = _unknown(arrival, unusable)
    return Standing(arrival=arrival, state=state, words=words)


def _known(arrival: Arrival, then: TakenBatch, state: Literal["taken", "in review"], by: str) -> tuple[State, str]:
    """Return the state of a batch whose name is known, and words for it."""
    words = f"{state}: {by} took it"
    if arrival.digest == then.digest:
        return state, words
    if not arrival.images:
        return state, f"{words}, and its images are gone from the inbox"
    return "changed", f"changed since {by} took it; put new images into a batch with a new name"


def _unknown(arrival: Arrival, unusable: str | None) -> tuple[State, str]:
    problems = "; ".join([*arrival.problems, *([unusable] if unusable else [])])
    if arrival.ready_since is None:
        words = f"half-written: it has no {READY} yet"
        return "half-written", f"{words}; as it is, it cannot be taken: {problems}" if problems else words
    if problems:
        return "unusable", f"unusable: {problems}"
    return "waits", f"waits since {arrival.ready_since.astimezone(UTC):%Y-%m-%d %H:%M}"
