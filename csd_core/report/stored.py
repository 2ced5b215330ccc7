"""A gallery as a task left it: how its rows came to be, and its test rows as they are searched.

G rows of D dimensions, n of them of test items; a test item goes by its number among those of all tasks.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from csd_core.records.ranking import GroupScoring
from csd_core.records.stages import Digest
from csd_core.retrieval.gallery import Gallery, Provenance
from csd_core.retrieval.metrics import Floats, Part
from csd_core.retrieval.parts import parts_of
from csd_core.system.errors import ArtifactError

Ints = npt.NDArray[np.intp]
Strings = npt.NDArray[np.str_]
Kind = Literal["made", "mapped", "kept"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowGroup:
    """Rows of one provenance.

    Attributes:
        embedded_by: The model that made their vectors.
        adapters: What mapped them since, oldest first.
        kind: made by the active model, mapped into its space, or kept in an older one.
        rows: How many.
    """

    embedded_by: Digest
    adapters: tuple[Digest, ...]
    kind: Kind
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoredGallery:
    """What the report needs of a gallery.

    Attributes:
        groups: Its rows by provenance, in order of first appearance.
        items: (n,) numbers of the test items it holds.
        positions: (n,) where their rows are.
        vectors: (G, D) unit length, memory-mapped.
        kinds: Provenance -> the numbers of its test items among `items`.
        scoring: How rows of some provenances are searched.
        query_model: The model whose queries search the others; None while there is none.
    """

    groups: tuple[RowGroup, ...]
    items: Ints
    positions: Ints
    vectors: Floats
    kinds: Mapping[Provenance, Ints]
    scoring: tuple[GroupScoring, ...]
    query_model: Digest | None

    @classmethod
    def load(cls, folder: Path, *, digest: Digest, test_ids: Strings) -> "StoredGallery":
        """Read a gallery artefact.

        Args:
            folder: Where it lies.
            digest: What the ledger says it is.
            test_ids: Ids of the test items of all tasks.

        Raises:
            ArtifactError: if it is not that gallery, or a test row is of none of the items.
        """
        gallery = Gallery.load(folder)
        if gallery.digest != digest:
            raise ArtifactError(
                f"{folder}: is gallery {gallery.digest[:12]}, the ledger has {digest[:12]}; run `csd run` to make it "
                "again"
            )
        positions = np.flatnonzero(gallery.splits == "test")
        ids, order = gallery.ids[positions], np.argsort(test_ids, kind="stable")
        places = np.searchsorted(test_ids, ids, sorter=order)
        known = places < len(test_ids)
        known[known] = test_ids[order[places[known]]] == ids[known]
        if not known.all():
            raise ArtifactError(
                f"{folder}: {(~known).sum()} test rows are of no test item, such as {ids[~known][0]}; run `csd run` to "
                "bring gallery and shards together"
            )
        return cls(
            groups=_groups(gallery),
            items=order[places],
            positions=positions,
            vectors=gallery.vectors,
            kinds=gallery.take(positions).groups(),
            scoring=gallery.scoring,
            query_model=gallery.query_model,
        )

    def __len__(self) -> int:
        return len(self.vectors)

    def parts(self, queries: Callable[[Digest], Floats], *, new: Floats | None = None) -> list[Part]:
        """Return the test rows as they are searched, by the items' numbers.

        Args:
            queries: From a model's digest to (N, D_m) every test item by it.
            new: (N, D) all items by the query model, of which those that the gallery lacks are rows too; None for none.
        """
        rows = self.vectors[self.positions]
        kinds = {provenance: self.items[held] for provenance, held in self.kinds.items()}
        count, width = len(rows), self.vectors.shape[1]
        if new is not None:
            count, width = len(new), max(width, new.shape[1])
        vectors = np.zeros((count, width), np.float32)
        vectors[self.items, : rows.shape[1]] = rows
        lacking = np.setdiff1d(np.arange(count), self.items)
        if new is not None and len(lacking) and self.query_model:
            vectors[lacking, : new.shape[1]] = new[lacking]
            native = Provenance(self.query_model, "")
            kinds[native] = np.concatenate([kinds.get(native, np.empty(0, np.intp)), lacking])
        return parts_of(vectors, kinds, self.scoring, query_model=self.query_model or "", queries=queries)


def _groups(gallery: Gallery) -> tuple[RowGroup, ...]:
    """Return the space of a provenance: that of the last adapter's target, or of the model."""
    groups = []
    for provenance, rows in gallery.groups().items():
        native = gallery.spaces[rows[0]] == gallery.query_model
        kind: Kind = "kept" if not native else "mapped" if provenance.chain else "made"
        groups.append(
            RowGroup(embedded_by=provenance.embedded_by, adapters=provenance.chain, kind=kind, rows=len(rows))
        )
    return tuple(groups)
