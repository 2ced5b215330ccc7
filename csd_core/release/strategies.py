"""Ways to serve a candidate beside a gallery that an earlier model made, from cheap to costly.

A strategy says whether it is possible, what it costs, which rows a measurement should see, and what becomes of the
gallery. New rows are always embedded by the candidate.
"""

from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from csd_core.errors import CompatibilityError
from csd_core.params import Strategy
from csd_core.release.evidence import Evidence
from csd_core.retrieval.gallery import Gallery
from csd_core.retrieval.metrics import Floats

Embed = Callable[[npt.NDArray[np.str_]], Floats]
"""From item ids (G,) to the candidate's vectors (G, D)."""


class UpgradeStrategy(Protocol):
    """One way to serve a candidate."""

    name: Strategy

    def why_not(self, evidence: Evidence) -> str | None:
        """Why it cannot be served at all; None where it can."""

    def cost(self, gallery_rows: int) -> int:
        """Old rows that must be embedded anew."""

    def rows(self, evidence: Evidence) -> Floats:
        """(N, D) rows of the measured items as they would be served."""

    def apply(self, old: Gallery, new: Gallery, embed: Embed) -> Gallery:
        """The gallery after the upgrade: `old` under this strategy, then `new`, which the candidate embedded."""


class NoGallery:
    """A first model: there is nothing to upgrade."""

    name: Strategy = "none"

    def why_not(self, evidence: Evidence) -> str | None:
        """Only where nothing was served before."""
        return "there is a gallery already" if evidence.old.any() else None

    def cost(self, gallery_rows: int) -> int:  # noqa: ARG002 - the protocol's
        """Nothing old to embed."""
        return 0

    def rows(self, evidence: Evidence) -> Floats:
        """All rows are the candidate's."""
        return evidence.candidate

    def apply(self, old: Gallery, new: Gallery, embed: Embed) -> Gallery:  # noqa: ARG002 - the protocol's
        """The new rows alone."""
        if len(old):
            raise CompatibilityError(f"strategy none: the gallery has {len(old)} rows; choose keep or backfill")
        return new


class Keep:
    """Old rows stay as they are; the candidate searches them directly (backward compatibility)."""

    name: Strategy = "keep"

    def why_not(self, evidence: Evidence) -> str | None:
        """Vectors of different dimensions cannot be compared."""
        old, new = evidence.stored.shape[1], evidence.candidate.shape[1]
        return None if old == new else f"the gallery has {old} dimensions, the candidate {new}"

    def cost(self, gallery_rows: int) -> int:  # noqa: ARG002 - the protocol's
        """Nothing is embedded anew."""
        return 0

    def rows(self, evidence: Evidence) -> Floats:
        """Stored rows, and new ones by the candidate."""
        rows = evidence.candidate.copy()
        rows[evidence.old] = evidence.stored
        return rows

    def apply(self, old: Gallery, new: Gallery, embed: Embed) -> Gallery:  # noqa: ARG002 - the protocol's
        """The rows as they are; the candidate may now search their spaces too."""
        model = _model_of(new)
        return old.joined(new, query_model=model, searchable_spaces=(*old.searchable_spaces, model))


class Backfill:
    """Every old row is embedded anew by the candidate, from its image."""

    name: Strategy = "backfill"

    def why_not(self, evidence: Evidence) -> str | None:  # noqa: ARG002 - the protocol's
        """Always possible: the images are at hand."""
        return None

    def cost(self, gallery_rows: int) -> int:
        """All old rows."""
        return gallery_rows

    def rows(self, evidence: Evidence) -> Floats:
        """All rows are the candidate's."""
        return evidence.candidate

    def apply(self, old: Gallery, new: Gallery, embed: Embed) -> Gallery:
        """The same items, all in the candidate's space."""
        model = _model_of(new)
        anew = Gallery.embedded(
            ids=old.ids,
            labels=old.labels,
            tasks=old.tasks,
            splits=old.splits,
            vectors=embed(old.ids),
            model=model,
        )
        return anew.joined(new, query_model=model, searchable_spaces=(model,))


def _model_of(new: Gallery) -> str:
    if new.query_model is None:
        raise CompatibilityError("new rows name no model; embed them with the candidate")
    return new.query_model


STRATEGIES: tuple[UpgradeStrategy, ...] = (Keep(), Backfill())
"""For a model that has a predecessor, cheapest first."""


def strategy_named(name: Strategy) -> UpgradeStrategy:
    """The strategy called `name`."""
    return next(strategy for strategy in (NoGallery(), *STRATEGIES) if strategy.name == name)
