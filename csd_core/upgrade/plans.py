"""An upgrade plan: what becomes of each row of an old gallery when a candidate takes over.

G old rows, D dimensions. A row is re-embedded from its image, mapped by the adapter of its provenance, or stays as
it is.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from csd_core.params.upgrade import Strategy
from csd_core.records.ranking import GroupScoring
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
        searchable_spaces: What may be searched afterwards.
        query_models: Provenances of rows that stay -> the older model whose queries go on searching them.
        scoring: How rows of some provenances are searched afterwards; the candidate searches the others, by cosine.
    """

    strategy: Strategy
    share: float | None = None
    model: str
    embed: Bools
    adapters: Mapping[Provenance, Adapter]
    searchable_spaces: tuple[str, ...]
    query_models: Mapping[Provenance, str] = field(default_factory=dict)
    scoring: tuple[GroupScoring, ...] = ()

    def provenances(self, old: Gallery) -> dict[Provenance, Ints]:
        """Provenance after the upgrade -> ascending positions of its rows."""
        found: dict[Provenance, list[Ints]] = {}
        native = Provenance(self.model, "")
        for provenance, rows in old.groups().items():
            adapter = self.adapters.get(provenance)
            left = rows[~self.embed[rows]]
            for becomes, some in (
                (provenance.mapped_by(adapter.digest) if adapter else provenance, left),
                (native, rows[self.embed[rows]]),
            ):
                if len(some):
                    found.setdefault(becomes, []).append(some)
        return {provenance: np.sort(np.concatenate(rows)) for provenance, rows in found.items()}

    def mapped(self, old: Gallery) -> Bools:
        """Return (G,) rows that an adapter maps."""
        found = np.zeros(len(old), np.bool_)
        for provenance, rows in old.groups().items():
            found[rows] = provenance in self.adapters
        return found & ~self.embed

    def scored(self, scoring: tuple[GroupScoring, ...]) -> "UpgradePlan":
        """Return the plan whose rows are searched in these ways."""
        return replace(self, scoring=scoring)

    def of(self, rows: Ints) -> "UpgradePlan":
        """Return the plan of some of the rows."""
        return replace(self, embed=self.embed[rows])

    def served(self, old: Gallery, re_embedded: Floats) -> Floats:
        """Return (G, D) vectors after the upgrade.

        Args:
            old: The rows of the plan.
            re_embedded: (n, D) the candidate's vectors of the rows re-embedded, in their order.

        Raises:
            CompatibilityError: if the candidate is to search a row that has another dimension than its own.
        """
        if self.embed.all():
            return re_embedded
        stays = {provenance: rows[~self.embed[rows]] for provenance, rows in old.groups().items()}
        parts: list[tuple[Ints, Floats]] = [(np.flatnonzero(self.embed), re_embedded)]
        for provenance, left in stays.items():
            if not len(left):
                continue
            vectors, adapter = old.vectors[left, : old.dimension_of(provenance)], self.adapters.get(provenance)
            vectors = adapter(vectors) if adapter else vectors
            if vectors.shape[1] != re_embedded.shape[1] and provenance not in self.query_models:
                raise CompatibilityError(
                    f"the gallery has {vectors.shape[1]} dimensions, the candidate {re_embedded.shape[1]}; backfill "
                    "every row"
                )
            parts.append((left, vectors))
        width = max(part.shape[1] for _, part in parts)
        served = np.zeros((len(old), width), np.float32)
        for rows, part in parts:
            served[rows, : part.shape[1]] = part
        return served

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
            return replace(old, query_model=self.model, searchable_spaces=self.searchable_spaces, scoring=self.scoring)
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
            scoring=self.scoring,
        )
