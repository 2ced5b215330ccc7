"""What a check looks at: the same items, as they are stored and as the models embed them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt

from csd_core.records.ranking import GroupScoring
from csd_core.retrieval.gallery import Gallery, Provenance, padded
from csd_core.retrieval.metrics import Bools, Floats, Ints, Part
from csd_core.retrieval.parts import parts_of
from csd_core.system.errors import CompatibilityError
from csd_core.upgrade.plans import UpgradePlan


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ServedRows:
    """Rows as they are served.

    Attributes:
        vectors: (N, W); where spaces differ in dimension, the narrower vectors end in zeros.
        kinds: Provenance -> ascending positions of its rows.
    """

    vectors: Floats
    kinds: Mapping[Provenance, Ints]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EvaluationData:
    """The measured items: every item that is served is a row, some of them are queries too.

    Attributes:
        labels: (N,) class names.
        tasks: (N,) the task each came with.
        splits: (N,) its role.
        old: (N,) whether it was in the gallery before.
        stored: N_old rows of the gallery, in the order of the old items.
        positions: (N_old,) where they are in the whole gallery.
        active: Digest of each model that embeds queries today -> (N, D) items as it embeds them. Old items that ask
            nothing need not be embedded: theirs are zeros. Empty for a first model.
        model: The candidate's digest.
        candidate: (N, D) by the candidate.
        asked: (Q,) which of the items are queries.
    """

    labels: npt.NDArray[np.str_]
    tasks: npt.NDArray[np.str_]
    splits: npt.NDArray[np.str_]
    old: Bools
    stored: Gallery
    positions: Ints
    active: Mapping[str, Floats]
    model: str
    candidate: Floats
    asked: Ints

    def __post_init__(self) -> None:
        """Refuse vectors that do not belong to the items."""
        if not len(self.stored) == len(self.positions) == self.old.sum():
            raise CompatibilityError(
                f"{len(self.stored)} stored vectors for {self.old.sum()} old items; give the stored row of each"
            )

    @property
    def champion(self) -> Floats | None:
        """(N, D_old) by the champion, which embeds new rows today; None for a first model."""
        return self.active.get(self.stored.query_model or "")

    def asking(self, asked: Ints) -> Self:
        """Return the same rows with other queries."""
        return replace(self, asked=asked)

    def asked_by(self, split: str) -> Self:
        """Return the same rows with the items of a split as queries."""
        return self.asking(np.flatnonzero(self.splits == split))

    def rows_before(self) -> ServedRows | None:
        """Rows served without an upgrade: stored ones, and new ones by the champion; None for a first model."""
        champion = self.champion
        if champion is None or self.stored.query_model is None:
            return None
        vectors = np.zeros((len(self.old), max(champion.shape[1], self.stored.vectors.shape[1])), np.float32)
        vectors[~self.old, : champion.shape[1]] = champion[~self.old]
        vectors[self.old] = padded(self.stored.vectors, vectors.shape[1])
        return ServedRows(vectors=vectors, kinds=self._kinds(self.stored.groups(), self.stored.query_model))

    def rows_after(self, plan: UpgradePlan) -> ServedRows:
        """Rows served after an upgrade: old ones under the plan, new ones by the candidate."""
        if not self.old.any():
            return ServedRows(vectors=self.candidate, kinds=self._kinds({}, self.model))
        mine = plan.of(self.positions)
        served = mine.served(self.stored, self.candidate[self.old][mine.embed])
        vectors = padded(self.candidate, served.shape[1]).copy()
        vectors[self.old] = served
        return ServedRows(vectors=vectors, kinds=self._kinds(mine.provenances(self.stored), self.model))

    def _kinds(self, old: Mapping[Provenance, Ints], model: str) -> dict[Provenance, Ints]:
        """Positions of the items' rows by provenance; new rows are `model`'s."""
        where = np.flatnonzero(self.old)
        kinds = {provenance: where[rows] for provenance, rows in old.items()}
        new, native = np.flatnonzero(~self.old), Provenance(model, "")
        if len(new):
            kinds[native] = np.sort(np.concatenate([kinds.get(native, np.empty(0, np.intp)), new]))
        return kinds

    def parts(self, rows: ServedRows, scoring: tuple[GroupScoring, ...], *, query_model: str) -> list[Part]:
        """Return what the queries search.

        Args:
            rows: What is served.
            scoring: How rows of some provenances are searched.
            query_model: Searches all other rows, by cosine.
        """
        return parts_of(
            rows.vectors,
            rows.kinds,
            scoring,
            query_model=query_model,
            queries=lambda model: self.embedded(model)[self.asked],
        )

    def embedded(self, model: str) -> Floats:
        """(N, D) items as a model embeds them: the candidate, or one that embeds queries today."""
        return self.candidate if model == self.model else self.active[model]
