"""What a person's rejection does to the images: which batches, or classes of them, no later task takes."""

from collections.abc import Mapping
from unicodedata import normalize

from csd_core.params.production import Review
from csd_core.params.upgrade import Choice
from csd_core.retraining.history import Retraining
from csd_core.retraining.policy import named
from csd_core.retraining.set_aside import set_aside
from csd_core.system.errors import ParamsError
from csd_core.workspace import Workspace
from flows.forms import Approve

NOTHING_LIVE: frozenset[Choice] = frozenset({"reject", "reject-data", "reject-classes"})
"""Rejections that keep search as it is."""

Aside = Mapping[str, tuple[str, ...] | None]
"""Batch -> the classes of it that are set aside; None for all."""


def rejected_images(workspace: Workspace, retraining: Retraining, settings: Approve) -> Aside:
    """Return what a decision sets aside.

    Args:
        workspace: Of a checkout of the retraining.
        retraining: What is decided on.
        settings: The decision.

    Raises:
        ParamsError: if the decision and the retraining do not agree.
    """
    choice, wanted = settings.choice, {normalize("NFC", label) for label in settings.classes}
    if wanted and choice != "reject-classes":
        raise ParamsError(f"decision {choice}: sets no single classes aside; leave the classes out, or reject-classes")
    if choice == "reject-model" and len(retraining.tasks) > 1:
        raise ParamsError(
            f"decision reject-model: {retraining.name} has several tasks ({', '.join(retraining.tasks)}), which are "
            "rejected as a whole; choose reject or reject-data"
        )
    if choice not in ("reject-data", "reject-classes"):
        return {}
    there = _classes(workspace, retraining)
    if not there:
        raise ParamsError(f"decision {choice}: {retraining.name} took no batch from the inbox; choose reject")
    if choice == "reject-data":
        return dict.fromkeys(there)
    labels = frozenset[str]().union(*there.values())
    unknown = wanted - labels
    if unknown or not wanted:
        said = f"{', '.join(sorted(unknown))}: no such classes" if unknown else "names no classes"
        raise ParamsError(f"decision reject-classes: {said}; the batches hold {', '.join(sorted(labels))}")
    return {
        batch: None if classes <= wanted else tuple(sorted(classes & wanted))
        for batch, classes in there.items()
        if classes & wanted
    }


def put_aside(project: Workspace, retraining: Retraining, review: Review, aside: Aside) -> None:
    """Write it down, so that the inbox offers those images no more."""
    for batch in retraining.batches:
        if batch.name in aside:
            set_aside(
                project,
                batch,
                aside[batch.name],
                by=review.by,
                reason=review.reason,
                retraining=retraining.name,
            )


def aside_in_words(aside: Aside) -> str:
    """Return what is set aside."""
    return ", ".join(batch if classes is None else f"{named(classes)} of {batch}" for batch, classes in aside.items())


def _classes(workspace: Workspace, retraining: Retraining) -> dict[str, frozenset[str]]:
    """Batch -> its classes, as the checkout has them."""
    found: dict[str, frozenset[str]] = {}
    for batch in retraining.batches:
        folders = workspace.root.glob(f"batches/*/*/{batch.name}")
        found[batch.name] = frozenset(normalize("NFC", folder.parent.name) for folder in folders)
    return found
