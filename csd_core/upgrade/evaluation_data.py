"""What a check looks at: the same items, as they are stored and as the models embed them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
import numpy.typing as npt

from csd_core.records.ranking import GroupScoring
from csd_core.retrieval.gallery import Gallery, Provenance
from csd_core.retrieval.metrics import Bools, Floats, Ints, Part
from csd_core.retrieval.parts import IDENTITY
from csd_core.system.errors import CompatibilityError
from csd_core.upgrade.plans import UpgradePlan
from csd_core.upgrade.search.ways import Piece, Source, Way


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
        groups: (N,) number of each item's group, all of one class: a query does not search the rows of its own; None
            where each item is on its own.
        ids: (N,) what the items are called; None where nobody asks for single ones.
        mapped: Provenance and an adapter's digest -> a gallery and its rows as it maps them, so that they are mapped
            once for all who ask.
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
    groups: Ints | None = None
    ids: npt.NDArray[np.str_] | None = None
    mapped: dict[tuple[Provenance, str], tuple[Gallery, Floats]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Refuse vectors that do not belong to the items."""
        if not len(self.stored) == len(self.positions) == self.old.sum():
            raise CompatibilityError(
                f"{len(self.stored)} stored vectors for {self.old.sum()} old items; give the stored row of each"
            )

    def groups_of(self, items: Ints) -> Ints:
        """Return (n,) numbers of some items' groups."""
        return items if self.groups is None else self.groups[items]

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

    def way_before(self) -> Way | None:
        """Return what is served without an upgrade: new rows are the champion's; None for a first model."""
        model = self.stored.query_model
        if model is None or model not in self.active:
            return None
        stored = {provenance: (rows, Source(stored=provenance)) for provenance, rows in self.stored.groups().items()}
        return self._way(stored, model, self.stored.scoring)

    def way_after(self, plan: UpgradePlan) -> Way:
        """Return what is served after an upgrade: old rows under the plan, new ones by the candidate."""
        mine = plan.of(self.positions)
        old: dict[Provenance, tuple[Ints, Source]] = {}
        for provenance, rows in self.stored.groups().items():
            adapter, left = plan.adapters.get(provenance), rows[~mine.embed[rows]]
            becomes = provenance.mapped_by(adapter.digest) if adapter else provenance
            if len(left):
                old[becomes] = left, Source(stored=provenance, adapter=adapter)
        return self._way(old, plan.model, plan.scoring)

    def _way(self, old: Mapping[Provenance, tuple[Ints, Source]], model: str, scoring: tuple[GroupScoring, ...]) -> Way:
        """Serve some old rows from the gallery; `model` embeds all other items, and searches what `scoring` leaves.

        Args:
            old: Provenance -> which of the old items, and where their vectors come from.
            model: The digest.
            scoring: How rows of some provenances are searched.
        """
        known = {Provenance(group.embedded_by, group.adapters): group for group in scoring}
        where, others = np.flatnonzero(self.old), np.ones(len(self.old), np.bool_)
        pieces = []

        def add(provenance: Provenance, rows: Ints, source: Source) -> None:
            group = known.get(provenance)
            searched = (group.query_model, group.score) if group else (model, IDENTITY)
            pieces.append(
                Piece(provenance=provenance, rows=rows, source=source, query_model=searched[0], score=searched[1])
            )

        for provenance, (rows, source) in old.items():
            others[where[rows]] = False
            add(provenance, where[rows], source)
        add(Provenance(model, ""), np.flatnonzero(others), Source(model=model))
        return Way(pieces=tuple(piece for piece in pieces if len(piece.rows)) or tuple(pieces))

    def vectors(self, source: Source) -> tuple[Floats, Ints]:
        """Return (n, D) vectors of a source, and (N,) which of them is each item's; -1 where it has none."""
        if source.stored is None:
            return self.embedded(source.model), np.arange(len(self.old))
        rows = self.stored.groups()[source.stored]
        place = np.full(len(self.old), -1)
        vectors = self.stored.vectors[:, : self.stored.dimension_of(source.stored)]
        if source.adapter is None:
            place[np.flatnonzero(self.old)[rows]] = rows
            return vectors, place
        place[np.flatnonzero(self.old)[rows]] = np.arange(len(rows))
        key = source.stored, source.adapter.digest
        known = self.mapped.get(key)
        if known is None or known[0] is not self.stored:
            known = self.mapped[key] = self.stored, source.adapter(vectors[rows])
        return known[1], place

    def parts(self, way: Way) -> list[Part]:
        """Return what the queries search."""
        parts = []
        for group in way.alike():
            positions = np.concatenate([piece.rows for piece in group])
            queries, held = self.embedded(group[0].query_model)[self.asked], []
            for piece in group:
                vectors, place = self.vectors(piece.source)
                held.append(vectors[place[piece.rows], : queries.shape[1]])
            order = np.argsort(positions)
            parts.append(
                Part(
                    queries=queries,
                    rows=np.concatenate(held)[order],
                    positions=positions[order],
                    score=group[0].score,
                )
            )
        return parts

    def embedded(self, model: str) -> Floats:
        """(N, D) items as a model embeds them: the candidate, or one that embeds queries today."""
        return self.candidate if model == self.model else self.active[model]
