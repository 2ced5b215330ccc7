"""The home page as HTML, in the style of the report. Names that people chose are escaped by the template."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from markupsafe import Markup

from csd_core.report.charts.theme import PALETTE
from csd_core.report.page import templates
from csd_core.retraining.policy import BatchStatus, classes_in_words
from csd_core.system.words import count
from flows.ui.flow_server import decision_form
from flows.ui.home import GalleryKind, Home

TEMPLATE = "home.html.jinja"
BATCHES = 30
"""Batches of the inbox on the page."""
SHORT = 8
"""Characters of a digest that are shown."""

Tone = Literal["wait", "good", "bad", "busy", "plain"]
_TONES: dict[str, Tone] = dict.fromkeys(("in review", "AwaitingReview"), "wait")
_TONES |= dict.fromkeys(("published", "images only", "ImagesOnly", "Completed", "ready"), "good")
_TONES |= dict.fromkeys(
    ("rejected", "Rejected", "refused", "Failed", "Crashed", "unfinished", "unusable", "changed", "degraded"), "bad"
)
_TONES |= dict.fromkeys(("Running", "Pending", "Cancelling", "waits"), "busy")
MARKS: dict[Tone, str] = {"wait": "◷", "good": "✓", "bad": "✗", "busy": "▸", "plain": "·"}
"""What says the same as the colour."""
_ORDER = ("waits", "half-written", "unusable", "changed", "in review", "set aside", "taken")
"""Of batches: first those that wait for something."""


_TURNING = {point: f"\\u{point:04x}" for point in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}
"""Characters that turn the direction of text: in a name they would turn the sentence around it."""


def render(home: Home) -> str:
    """Return the page as HTML."""
    statuses = sorted(home.inbox.shown.statuses, key=_urgency) if home.inbox.shown else []
    environment = templates(Path(__file__).parent)
    environment.filters |= {"minute": _minute, "short": lambda digest: digest[:SHORT]}
    page = environment.get_template(TEMPLATE).render(
        home=home,
        lead=_lead(home),
        batches=[
            {
                "name": each.inbox_batch.name,
                "images": each.inbox_batch.images,
                "classes": classes_in_words(each.inbox_batch, home.inbox.shown.known_classes),
                "state": each.state,
                "words": each.words,
            }
            for each in statuses[:BATCHES]
            if home.inbox.shown
        ],
        all_batches=len(statuses),
        waiting=sum(each.inbox_batch.images for each in statuses if each.state == "waits"),
        kinds=[(each.rows, _kind_in_words(each, home)) for each in home.gallery.shown or ()],
        rows=sum(each.rows for each in home.gallery.shown) if home.gallery.shown is not None else None,
        left={each.name: _left(each.deadline, home.collected) for each in home.reviews},
        forms={each.name: decision_form(home.form, each.name) for each in home.reviews if home.form},
        tones=_TONES,
        marks=MARKS,
        style=Markup(PALETTE),  # noqa: S704 - a constant
    )
    return page.translate(_TURNING)


def _urgency(status: BatchStatus) -> tuple[int, str]:
    return _ORDER.index(status.state), status.inbox_batch.name


def _lead(home: Home) -> str:
    """Return one or two sentences on what needs a person."""
    said: list[str] = []
    if home.reviews:
        said.append(f"{count(len(home.reviews), 'retraining').capitalize()} {_verb(home.reviews)} for your decision.")
    if home.unusable:
        said.append(f"{count(len(home.unusable), 'batch', 'batches').capitalize()} of the inbox cannot be used.")
    if not said:
        said.append("Nothing waits for you.")
    return " ".join(said)


def _verb(several: Sequence[object]) -> str:
    return "waits" if len(several) == 1 else "wait"


def _kind_in_words(kind: GalleryKind, home: Home) -> str:
    """Return how rows came to be."""
    active = home.release.shown.release.record.model if home.release.shown else ""
    by = "the active model" if kind.embedded_by == active else f"model {kind.embedded_by[:SHORT]}"
    mapped = f", mapped by {count(kind.mapped, 'adapter')}" if kind.mapped else ""
    where = "" if kind.searched_by == active else f", in the space of model {kind.searched_by[:SHORT]}"
    return f"embedded by {by}{mapped}{where}"


def _left(deadline: str | None, now: datetime) -> str:
    """Return how long a review may still wait."""
    if deadline is None:
        return ""
    left = datetime.fromisoformat(deadline) - now
    if left < timedelta(0):
        return "overdue"
    if left >= timedelta(days=1):
        return f"{count(left.days, 'day')} left"
    return f"{count(left.seconds // 3600, 'hour')} left"


def _minute(time: datetime | str) -> str:
    """Return a time in UTC to the minute."""
    return str(time)[:16].replace("T", " ")
