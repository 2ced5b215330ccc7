"""What a way to serve a candidate is chosen for: the gallery that is there, the candidate and its adapters."""

from dataclasses import dataclass, field
from typing import Self

import numpy as np

from csd_core.params.upgrade import Order, Upgrade
from csd_core.retrieval.embedder import Embedder
from csd_core.retrieval.gallery import Gallery
from csd_core.retrieval.metrics import Bools, Ints
from csd_core.upgrade.backfill.orders import order_rows
from csd_core.upgrade.mapping.adapters import CandidateAdapters


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Situation:
    """An old gallery and the candidate that is to take it over.

    Attributes:
        gallery: G old rows.
        candidate: The candidate's digest.
        dimension: D of its vectors.
        adapters: Its adapters.
        settings: Parameters of the ways to serve it.
    """

    gallery: Gallery
    candidate: str
    dimension: int
    adapters: CandidateAdapters
    settings: Upgrade
    _orders: dict[Order, Ints] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, gallery: Gallery, candidate: Embedder, adapters: CandidateAdapters, settings: Upgrade) -> Self:
        """Return the situation of a candidate that is at hand."""
        return cls(
            gallery=gallery,
            candidate=candidate.digest,
            dimension=candidate.metadata.dimension,
            adapters=adapters,
            settings=settings,
        )

    def order(self, name: Order) -> Ints:
        """Return (G,) positions of the old rows, most useful first."""
        if name not in self._orders:
            self._orders[name] = order_rows(name, self.gallery, anchors=self.adapters.anchors, seed=self.settings.seed)
        return self._orders[name]

    def without_adapter(self) -> Bools:
        """Return (G,) rows that no adapter brings into the candidate's space."""
        found = np.ones(len(self.gallery), np.bool_)
        for provenance, rows in self.gallery.groups().items():
            found[rows] = provenance not in self.adapters.chosen
        return found

    def other_dimension(self) -> str | None:
        """Return why stored vectors cannot stay beside the candidate's; None where they can."""
        for provenance in self.gallery.groups():
            old = self.gallery.dimension_of(provenance)
            if old != self.dimension:
                return f"the gallery has {old} dimensions, the candidate {self.dimension}"
        return None

    def no_adapter(self) -> str | None:
        """Return why no old row can be mapped; None where one can."""
        if self.adapters.chosen:
            return None
        return self.adapters.record.why_not or "no model of the gallery's rows is retained"
