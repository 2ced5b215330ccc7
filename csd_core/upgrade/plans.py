"""An upgrade plan: what becomes of each row of an old gallery when a candidate takes over.

G old rows, D dimensions. A row is re-embedded from its image, mapped by the adapter of its provenance, or stays as
it is.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from csd_core.params.upgrade import Strategy
from csd_core.retrieval.adapter import Adapter
from csd_core.retrieval.gallery import Gallery, Provenance
from csd_core.retrieval.metrics import Bools, Floats, Ints
from csd_core.system.errors import CompatibilityError

Embed = Callable[[npt.NDArray[np.str_]], Floats]
"""From item ids (n,) to the candidate's vectors (n, D)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class UpgradePlan:
    """What becomes of each old row.

    Attributes:
        strategy: The plan's kind.
        share: Of the old rows that a partial backfill re-embeds; None for other strategies.
        model: The candidate's digest.
        embed: (G,) rows re-embedded from their images.
        adapters: How the other rows are mapped; a row whose provenance is not in it stays as it is.
        searchable_spaces: What the candidate may search afterwards.
    """

    strategy: Strategy
    share: float | None = None
    model: str
    embed: Bools
    adapters: Mapping[Provenance, Adapter]
    searchable_spaces: tuple[str, ...]

    def mapped(self, old: Gallery) -> Bools:
        """Return (G,) rows that an adapter maps."""
        found = np.zeros(len(old), np.bool_)
        for provenance, rows in old.groups().items():
            found[rows] = provenance in self.adapters
        return found & ~self.embed

    def of(self, rows: Ints) -> "UpgradePlan":
        """Return the plan of some of the rows."""
        return replace(self, embed=self.embed[rows])

    def served(self, old: Gallery, re_embedded: Floats) -> Floats:
        """Return (G, D) vectors after the upgrade.

        Args:
            old: The rows of the plan.
            re_embedded: (n, D) the candidate's vectors of the rows re-embedded, in their order.

        Raises:
            CompatibilityError: if a row that stays has another dimension than the candidate.
        """
        if self.embed.all():
            return re_embedded
        width = re_embedded.shape[1]
        vectors = np.empty((len(old), width), np.float32)
        vectors[self.embed] = re_embedded
        for provenance, rows in old.groups().items():
            left = rows[~self.embed[rows]]
            if not len(left):
                continue
            adapter = self.adapters.get(provenance)
            moved = adapter(old.vectors[left]) if adapter else old.vectors[left]
            if moved.shape[1] != width:
                raise CompatibilityError(
                    f"the gallery has {moved.shape[1]} dimensions, the candidate {width}; backfill every row"
                )
            vectors[left] = moved
        return vectors

    def apply(self, old: Gallery, embed: Embed) -> Gallery:
        """Return the same items as the candidate searches them.

        Args:
            old: The rows of the plan.
            embed: Makes the candidate's vectors, by id.

        Raises:
            CompatibilityError: if the plan leaves a row in a space or dimension that the candidate cannot search.
        """
        if len(self.embed) != len(old):
            raise CompatibilityError(f"the plan is for {len(self.embed)} rows, the gallery has {len(old)}; plan again")
        if not len(old):
            return replace(old, query_model=self.model, searchable_spaces=self.searchable_spaces)
        embedded_by, adapters, spaces = (
            column.astype(object) for column in (old.embedded_by, old.adapters, old.spaces)
        )
        for provenance, rows in old.groups().items():
            adapter = self.adapters.get(provenance)
            if adapter:
                adapters[rows] = provenance.mapped_by(adapter.digest).adapters
                spaces[rows] = adapter.metadata.target
        embedded_by[self.embed], adapters[self.embed], spaces[self.embed] = self.model, "", self.model
        return replace(
            old,
            embedded_by=embedded_by.astype(np.str_),
            adapters=adapters.astype(np.str_),
            spaces=spaces.astype(np.str_),
            vectors=self.served(old, embed(old.ids[self.embed])),
            query_model=self.model,
            searchable_spaces=self.searchable_spaces,
        )
