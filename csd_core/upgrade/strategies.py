"""Ways to serve a candidate beside a gallery that earlier models made, from cheap to costly.

A strategy says whether it is possible (`why_not`) and makes a plan for the old rows; the plan tells its cost, what a
measurement should see (`served`) and makes the upgraded gallery (`apply`). New rows are always embedded by the
candidate.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from csd_core.params.upgrade import Order, Partial, Rest, Strategy
from csd_core.system.errors import CompatibilityError
from csd_core.upgrade.plans import UpgradePlan
from csd_core.upgrade.situation import Situation

NO_ORDER = "the gallery has no select rows to choose order and share on"
"""Why a partial backfill is impossible where its choice could not be rehearsed."""


class UpgradeStrategy(Protocol):
    """One way to serve a candidate."""

    @property
    def name(self) -> Strategy:
        """Its kind."""

    @property
    def share(self) -> float | None:
        """Of the old rows, for a partial backfill."""

    def why_not(self, situation: Situation) -> str | None:
        """Return why it cannot be served at all; None where it can."""

    def plan(self, situation: Situation) -> UpgradePlan:
        """Return what becomes of each old row; asked only where it is possible."""


@dataclass(frozen=True, slots=True)
class NoGallery:
    """A first model: there is nothing to upgrade."""

    name: Strategy = "none"
    share: float | None = None

    def why_not(self, situation: Situation) -> str | None:
        """Return why not: something was served before."""
        rows = len(situation.gallery)
        return f"the gallery has {rows} rows" if rows else None

    def plan(self, situation: Situation) -> UpgradePlan:
        """Return a plan without old rows."""
        return UpgradePlan(
            strategy=self.name,
            model=situation.candidate,
            embed=np.ones(0, np.bool_),
            adapters={},
            searchable_spaces=(situation.candidate,),
        )


@dataclass(frozen=True, slots=True)
class Keep:
    """Old rows stay as they are; the candidate searches them directly (backward compatibility)."""

    name: Strategy = "keep"
    share: float | None = None

    def why_not(self, situation: Situation) -> str | None:
        """Return why not: vectors of different dimensions cannot be compared."""
        return situation.other_dimension()

    def plan(self, situation: Situation) -> UpgradePlan:
        """Return the plan in which the candidate may search the rows' spaces too."""
        return UpgradePlan(
            strategy=self.name,
            model=situation.candidate,
            embed=np.zeros(len(situation.gallery), np.bool_),
            adapters={},
            searchable_spaces=_with(situation.gallery.searchable_spaces, situation.candidate),
        )


@dataclass(frozen=True, slots=True)
class Adapt:
    """Old rows are mapped into the candidate's space; those that no adapter reaches are re-embedded."""

    name: Strategy = "adapt"
    share: float | None = None

    def why_not(self, situation: Situation) -> str | None:
        """Return why not: it needs an adapter."""
        return situation.no_adapter()

    def plan(self, situation: Situation) -> UpgradePlan:
        """Return the plan that maps each row by the adapter of its provenance."""
        return UpgradePlan(
            strategy=self.name,
            model=situation.candidate,
            embed=situation.without_adapter(),
            adapters=situation.adapters.chosen,
            searchable_spaces=(situation.candidate,),
        )


@dataclass(frozen=True, slots=True)
class Merge:
    """Each model's queries search the rows of its own space, and scores merge the answers (after Seo et al., 2023).

    Rows whose model would be one too many are mapped to the candidate's space, or re-embedded where no adapter can.
    """

    name: Strategy = "merge"
    share: float | None = None

    def why_not(self, situation: Situation) -> str | None:
        """Return why not: it needs a second query model."""
        if situation.settings.max_query_models < 2:  # noqa: PLR2004 - the candidate and one other
            return "upgrade.max_query_models allows one query model"
        return None

    def plan(self, situation: Situation) -> UpgradePlan:
        """Return the plan that leaves every row whose query model stays."""
        gallery = situation.gallery
        stay = gallery.query_models[: situation.settings.max_query_models - 1]
        query_models, adapters, embed = {}, {}, np.zeros(len(gallery), np.bool_)
        for provenance, rows in gallery.groups().items():
            group = gallery.searched_by(provenance)
            searched_by = group.query_model if group else gallery.query_models[0]
            if searched_by in stay:
                query_models[provenance] = searched_by
            elif provenance in situation.adapters.chosen:
                adapters[provenance] = situation.adapters.chosen[provenance]
            else:
                embed[rows] = True
        return UpgradePlan(
            strategy=self.name,
            model=situation.candidate,
            embed=embed,
            adapters=adapters,
            searchable_spaces=_with(gallery.searchable_spaces, situation.candidate),
            query_models=query_models,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialBackfill:
    """The most useful old rows are re-embedded; the rest is mapped, or stays.

    Attributes:
        share: Of the old rows.
        order: Which come first; None where there was nothing to choose it on.
        rest: What becomes of the others.
    """

    share: float | None
    order: Order | None
    rest: Rest
    name: Strategy = "partial"

    def why_not(self, situation: Situation) -> str | None:
        """Return why not: the rest needs what `adapt` or `keep` need, and the rows an order."""
        reason = situation.no_adapter() if self.rest == "adapt" else situation.other_dimension()
        return reason or (NO_ORDER if self.order is None else None)

    def plan(self, situation: Situation) -> UpgradePlan:
        """Return the plan that re-embeds the first of the order, and rows that no adapter can map."""
        rows = len(situation.gallery)
        if self.order is None:
            raise CompatibilityError(f"partial: {NO_ORDER}; choose another strategy")
        embed = np.zeros(rows, np.bool_)
        embed[situation.order(self.order)[: round((self.share or 0.0) * rows)]] = True
        adapt = self.rest == "adapt"
        spaces = (situation.candidate,)
        return UpgradePlan(
            strategy=self.name,
            share=self.share,
            model=situation.candidate,
            embed=embed | situation.without_adapter() if adapt else embed,
            adapters=situation.adapters.chosen if adapt else {},
            searchable_spaces=spaces if adapt else _with(situation.gallery.searchable_spaces, situation.candidate),
        )


@dataclass(frozen=True, slots=True)
class Backfill:
    """Every old row is re-embedded by the candidate, from its image."""

    name: Strategy = "backfill"
    share: float | None = None

    def why_not(self, situation: Situation) -> str | None:  # noqa: ARG002 - the protocol's
        """Return None: it is always possible, for the images are at hand."""
        return None

    def plan(self, situation: Situation) -> UpgradePlan:
        """Return the plan that re-embeds every row."""
        return UpgradePlan(
            strategy=self.name,
            model=situation.candidate,
            embed=np.ones(len(situation.gallery), np.bool_),
            adapters={},
            searchable_spaces=(situation.candidate,),
        )


def _with(spaces: tuple[str, ...], model: str) -> tuple[str, ...]:
    return spaces if model in spaces else (*spaces, model)


def offered(settings: Partial, order: Order | None) -> tuple[UpgradeStrategy, ...]:
    """For a model that has a predecessor, cheapest first.

    Args:
        settings: Shares of a partial backfill, and what becomes of the rest.
        order: Of its rows; None where it could not be chosen, so that a partial backfill says why it is impossible.
    """
    partial = [PartialBackfill(share=share, order=order, rest=settings.rest) for share in settings.shares]
    return (Keep(), Adapt(), Merge(), *partial, Backfill())


def strategy_named(name: Strategy, *, share: float | None, order: Order | None, rest: Rest | None) -> UpgradeStrategy:
    """Return the strategy of a verdict.

    Args:
        name: Its kind.
        share: Of a partial backfill.
        order: Of a partial backfill.
        rest: Of a partial backfill.

    Raises:
        CompatibilityError: if a partial backfill has no share or order.
    """
    if name == "partial":
        if share is None or order is None or rest is None:
            raise CompatibilityError("partial: the report names no share, order or rest; check the candidate again")
        return PartialBackfill(share=share, order=order, rest=rest)
    return next(each for each in (NoGallery(), Keep(), Adapt(), Merge(), Backfill()) if each.name == name)
