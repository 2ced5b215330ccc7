"""A sample of the gate's queries that a plan keeps, so that what was written to a store is judged without images.

    queries/queries.parquet    id of the image, its class
    queries/<digest>.npy       (Q, D) the queries by each model that embeds some, before or after

Q queries, n rows of a batch.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np

from csd_core.data.tables import Strings, read_table, write_table
from csd_core.records.gallery import GalleryRecord
from csd_core.records.ranking import GroupScoring, Identity
from csd_core.retrieval.gallery import Provenance
from csd_core.retrieval.metrics import Bools, Floats, Ints
from csd_core.system.errors import ArtifactError

FOLDER, QUERIES = "queries", "queries.parquet"
MOST = 1000
"""Queries of a sample."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """Queries that were embedded when the upgrade was planned.

    Attributes:
        ids: (Q,) of their images.
        labels: (Q,) their classes.
        vectors: Digest of a model -> (Q, D).
    """

    ids: Strings
    labels: Strings
    vectors: dict[str, Floats]

    @classmethod
    def load(cls, folder: Path, models: Iterable[str]) -> Self:
        """Read what `save` wrote.

        Raises:
            ArtifactError: if a file is missing or damaged.
        """
        table = read_table(folder / FOLDER / QUERIES, ("id", "label"))
        try:
            vectors = {each: np.load(folder / FOLDER / f"{each}.npy", allow_pickle=False) for each in models}
        except (OSError, ValueError) as error:
            raise ArtifactError(f"{folder / FOLDER}: cannot be read ({error}); plan again") from None
        return cls(ids=table["id"], labels=table["label"], vectors=vectors)

    def save(self, folder: Path) -> None:
        """Write into the folder of a plan."""
        (folder / FOLDER).mkdir()
        write_table(folder / FOLDER / QUERIES, {"id": self.ids, "label": self.labels})
        for digest, vectors in self.vectors.items():
            np.save(folder / FOLDER / f"{digest}.npy", vectors, allow_pickle=False)


@dataclass(kw_only=True, eq=False)
class Search:
    """An exact search for the nearest row of each query, a batch of rows at a time.

    Attributes:
        sample: The queries.
        record: Which model's queries search which rows, and with which score.
    """

    sample: Sample
    record: GalleryRecord
    best: Floats = field(init=False)
    found: Strings = field(init=False)

    def __post_init__(self) -> None:
        """Begin with no row."""
        self.best = np.full(len(self.sample.ids), -np.inf, np.float32)
        self.found = np.full(len(self.sample.ids), "", object)

    def add(
        self, vectors: Floats, *, items: Strings, labels: Strings, provenances: Callable[[Provenance], Ints]
    ) -> None:
        """Look at more rows, each of an image that is known.

        Args:
            vectors: (n, D) of unit length.
            items: (n,) ids of their images; a query never finds its own.
            labels: (n,) their classes.
            provenances: From a provenance that is searched in a way of its own to the rows of it.
        """
        rest = np.ones(len(items), np.bool_)
        for group in self.record.scoring:
            rows = provenances(Provenance(group.embedded_by, group.adapters))
            rest[rows] = False
            self._look(vectors[rows, : group.dimension], items[rows], labels[rows], group)
        self._look(vectors[rest], items[rest], labels[rest], None)

    def hits(self) -> Bools:
        """Return (Q,) whether the nearest row is of the query's class."""
        return np.asarray(self.found == self.sample.labels, np.bool_)

    def _look(self, vectors: Floats, items: Strings, labels: Strings, group: GroupScoring | None) -> None:
        if not len(items):
            return
        queries = self.sample.vectors[group.query_model if group else str(self.record.query_model)]
        score = group.score if group else Identity()
        near = score(queries @ vectors[:, : queries.shape[1]].T)
        near[self.sample.ids[:, None] == items[None]] = -np.inf
        at = near.argmax(axis=1)
        value = near[np.arange(len(at)), at]
        better = value > self.best
        self.best = np.where(better, value, self.best)
        self.found = np.where(better, labels[at].astype(object), self.found)
