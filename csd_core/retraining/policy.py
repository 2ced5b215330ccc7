"""When the batches that wait become a task, and what stands in the way of each other batch. Pure."""

import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from csd_core.data.classes import natural_key
from csd_core.params.production import InboxParams
from csd_core.retraining.history import Retraining
from csd_core.retraining.inbox import READY, InboxBatch
from csd_core.retraining.manifests import TakenBatch

SHOWN = 5
"""Names in a sentence."""
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A task is to be cut.

    Attributes:
        inbox_batches: Its batches.
        new_classes: Classes that no task has yet, in natural order.
        why: A sentence with figures.
    """

    inbox_batches: tuple[InboxBatch, ...]
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
    inbox_batches: Sequence[InboxBatch], *, known_classes: Collection[str], policy: InboxParams, now: datetime
) -> Due | Waiting:
    """Return whether a task is to be cut.

    Args:
        inbox_batches: The batches that wait: ready, usable, neither taken nor in review.
        known_classes: That tasks have already.
        policy: When it is.
        now: Aware.
    """
    if not inbox_batches:
        return Waiting(why="nothing waits")
    new = new_classes(inbox_batches, known_classes)
    images = sum(inbox_batch.images for inbox_batch in inbox_batches)
    figures = f"{images:,} of {policy.min_images:,} images wait{_classes_in_words(new, policy.min_new_classes)}"
    if images >= policy.min_images and len(new) >= policy.min_new_classes:
        return Due(inbox_batches=tuple(inbox_batches), new_classes=new, why=figures)
    if policy.max_wait_days is None:
        return Waiting(why=f"{figures}; how long they wait does not matter")
    since, oldest = min((inbox_batch.ready_since or now, inbox_batch.name) for inbox_batch in inbox_batches)
    waited = max(0.0, (now - since) / _DAY)  # the clocks of sender and receiver may differ
    if waited >= policy.max_wait_days:
        limit = f"{policy.max_wait_days:g} at most"
        why = f"{figures}, and batch {oldest} has waited {waited:.1f} days ({limit})"
        return Due(inbox_batches=tuple(inbox_batches), new_classes=new, why=why)
    return Waiting(why=f"{figures}; {_deadline(since, policy.max_wait_days)}")


def new_classes(inbox_batches: Collection[InboxBatch], known: Collection[str]) -> tuple[str, ...]:
    """Return classes of batches that no task has yet, in natural order."""
    had = {unicodedata.normalize("NFC", label) for label in known}
    return tuple(
        sorted({label for inbox_batch in inbox_batches for label in inbox_batch.classes} - had, key=natural_key)
    )


def named(names: Sequence[str]) -> str:
    """Return the first few names, and how many more there are."""
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def classes_in_words(inbox_batch: InboxBatch, known: Collection[str]) -> str:
    """Return the first few classes of a batch, new ones first and with a plus."""
    new = new_classes([inbox_batch], known)
    return named([*(f"+{label}" for label in new), *sorted(inbox_batch.classes.keys() - set(new))])


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


State = Literal["half-written", "unusable", "set aside", "taken", "changed", "in review", "waits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchStatus:
    """How a batch stands.

    Attributes:
        inbox_batch: The batch.
        state: For programs; only those that wait become part of a task.
        words: For people.
    """

    inbox_batch: InboxBatch
    state: State
    words: str


def batch_status(
    inbox_batch: InboxBatch,
    *,
    taken: Mapping[str, tuple[str, TakenBatch]],
    reviews: Sequence[Retraining],
    unusable: str | None = None,
) -> BatchStatus:
    """Return how a batch stands.

    Args:
        inbox_batch: The batch.
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
    if inbox_batch.name in taken:
        task, then = taken[inbox_batch.name]
        state, words = _known(inbox_batch, then, "taken", f"task {task}")
    elif inbox_batch.name in in_review:
        review_name, then = in_review[inbox_batch.name]
        state, words = _known(inbox_batch, then, "in review", f"retraining {review_name}")
    else:
        state, words = _unknown(inbox_batch, unusable)
    return BatchStatus(inbox_batch=inbox_batch, state=state, words=words)


def _known(
    inbox_batch: InboxBatch, then: TakenBatch, state: Literal["taken", "in review"], by: str
) -> tuple[State, str]:
    """Return the state of a batch whose name is known, and words for it."""
    words = f"{state}: {by} took it"
    if inbox_batch.digest == then.digest:
        return state, words
    if not inbox_batch.images:
        return state, f"{words}, and its images are gone from the inbox"
    return "changed", f"changed since {by} took it; put new images into a batch with a new name"


def _unknown(inbox_batch: InboxBatch, unusable: str | None) -> tuple[State, str]:
    problems = "; ".join([*inbox_batch.problems, *([unusable] if unusable else [])])
    if inbox_batch.ready_since is None:
        words = f"half-written: it has no {READY} yet"
        return "half-written", f"{words}; as it is, it cannot be taken: {problems}" if problems else words
    if problems:
        return "unusable", f"unusable: {problems}"
    waits, aside = f"waits since {inbox_batch.ready_since.astimezone(UTC):%Y-%m-%d %H:%M}", inbox_batch.aside
    if aside is None:
        return "waits", waits
    words = f"{aside.words}; `csd inbox return {inbox_batch.name}` lets it wait again"
    return ("waits", f"{waits}; {words}") if aside.classes else ("set aside", words)
