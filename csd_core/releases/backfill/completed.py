"""The rows of a table at a backfill's tag, with the vectors of its shards.

N rows, D dimensions of the model, n rows that were re-embedded. In memory are the n vectors and 4 bytes a row.
"""

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from csd_core.live.gallery import LiveGallery
from csd_core.live.reader import KIND, kinds_in
from csd_core.live.rows import COLUMNS, column_of, vectors_of
from csd_core.live.rules import SearchRules
from csd_core.releases.backfill.rows import LiveBackfill
from csd_core.releases.contents.release import Release
from csd_core.retrieval.gallery import Provenance, padded
from csd_core.system.errors import ArtifactError
from csd_core.upgrade.backfill.shards import load_vectors


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CompletedRows:
    """The rows of a table, some of which were re-embedded.

    Attributes:
        live: Where the table is.
        release: Whose it is.
        tag: The version that the backfill was planned for.
        places: (N,) which of the vectors a row has; -1 for its own.
        vectors: (n, D) those of the shards.
    """

    live: LiveGallery
    release: Release
    tag: str
    places: npt.NDArray[np.int32]
    vectors: npt.NDArray[np.float32]

    @classmethod
    def of(cls, live: LiveGallery, backfill: LiveBackfill, *, without: Collection[str]) -> Self:
        """Read the shards.

        A row that was erased since the plan is in its shard only.

        Args:
            live: Where the table is.
            backfill: Whose shards are all embedded.
            without: Ids whose image could not be read.
        """
        release = backfill.release
        ids = [pa.array(shard.ids.tolist(), pa.string()) for shard in backfill.shards]
        failed = pa.array(sorted(without), pa.string())
        embedded = pa.chunked_array(
            [pc.if_else(pc.is_in(each, value_set=failed), None, each) for each in ids], pa.string()
        )
        vectors = np.empty((backfill.rows, release.record.dimension), np.float32)
        count = 0
        for shard in backfill.shards:
            vectors[count : count + len(shard.ids)] = load_vectors(backfill.results.home(shard))
            count += len(shard.ids)
        batches = live.batches(release.table, ("id",), version=backfill.tag)
        every = pa.chunked_array([batch["id"] for batch in batches], pa.string())
        places = pc.index_in(every, value_set=embedded).fill_null(-1).to_numpy()
        return cls(live=live, release=release, tag=backfill.tag, places=places, vectors=vectors)

    def rules(self) -> SearchRules:
        """How the rows are searched: older models and scores that no row needs any more go."""
        record, own = self.release.record, (Provenance(self.release.record.model, ""), self.release.record.model)
        kinds: Counter[tuple[Provenance, str]] = Counter()
        for batch, place in self._read(KIND):
            kinds += kinds_in([batch.filter(pa.array(place < 0))])
            kinds[own] += int(np.count_nonzero(place >= 0))
        there = {provenance for provenance, _ in kinds}
        spaces, scoring = self.release.searchable_spaces, record.scoring
        if scoring:
            left = {record.model} | {space for _, space in kinds}
            spaces = tuple(space for space in spaces if space in left)
            scoring = tuple(each for each in scoring if Provenance(each.embedded_by, each.adapters) in there | {own[0]})
            if there <= {own[0]}:
                scoring = ()
        return SearchRules.of(
            kinds.keys(), model=record.model, dimension=record.dimension, spaces=spaces, scoring=scoring
        )

    def batches(self, width: int) -> Iterator[pa.RecordBatch]:
        """Yield the rows as a table of so many dimensions has them; what is cut off are zeros."""
        for batch, place in self._read(COLUMNS):
            mine = place >= 0
            vectors = np.array(vectors_of(batch)[:, :width])
            vectors[mine] = padded(self.vectors[place[mine]], vectors.shape[1])
            rows, new, model = batch, pa.array(mine), self.release.record.model
            for name, word in (("embedded_by", model), ("adapters", ""), ("space", model)):
                column = pc.if_else(new, word, rows[name])
                rows = rows.set_column(rows.schema.get_field_index(name), name, column)
            yield rows.set_column(rows.schema.get_field_index("vector"), "vector", column_of(vectors))

    def _read(self, columns: Collection[str]) -> Iterator[tuple[pa.RecordBatch, npt.NDArray[np.int32]]]:
        """Yield some of the rows, and which vectors they have."""
        count = 0
        for batch in self.live.batches(self.release.table, tuple(columns), version=self.tag):
            yield batch, self.places[count : count + batch.num_rows]
            count += batch.num_rows
        if count != len(self.places):
            raise ArtifactError(f"table {self.release.table}: its rows changed while they were read; try again")
