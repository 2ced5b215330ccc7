"""Search in a snapshot of a live table: exact in memory, or through an index with what was written since beside it.

Q queries, N rows, D dimensions, K answers. Similarity is the cosine, reckoned in double precision. Where several
models' queries search, each searches its own groups of rows, a map makes scores of each group's cosines, and the scores
merge the answers. Equal scores are ordered by id; so an exact answer depends neither on the order of the rows nor on
how a matrix product was cut up.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from lancedb.table import Table

from csd_core.live.exact import Source, nearest_in, search
from csd_core.live.filters import Filters
from csd_core.live.hits import Hits
from csd_core.live.index.files import SearchIndex
from csd_core.live.memory import Rows
from csd_core.live.reader import KIND, LiveReader, kinds_in, kinds_of, refuse_spaces, refuse_width
from csd_core.live.rows import BATCH_ROWS, Vectors, refuse_bad_vectors
from csd_core.live.rules import SearchRules
from csd_core.live.storage.lance import taken
from csd_core.system.errors import ArtifactError, CompatibilityError, ParamsError

PROBES = 32

Queries = Vectors | Mapping[str, Vectors]
"""(Q, D) of the one query model, or those of each by its digest."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Snapshot:
    """One version of a table, as the queries of its models search it.

    Attributes:
        table: Its name.
        rules: Which models' queries search which rows.
        count: N.
        rows: All of them, in memory; None where an index answers.
    """

    table: str
    rules: SearchRules
    count: int
    rows: Rows | None
    _sources: tuple[Source, ...]
    _probes: int

    @classmethod
    def load(
        cls,
        live: LiveReader,
        table: str,
        rules: SearchRules,
        *,
        version: str | int | None = None,
        index: SearchIndex | None = None,
        probes: int = PROBES,
    ) -> "Snapshot":
        """Open a table at a version; later writes do not show.

        Args:
            live: The gallery it is in.
            table: Its name.
            rules: Which models' queries search which rows.
            version: A tag or version; None for now.
            index: Of the table; without one all rows are loaded, and search is exact.
            probes: Cells of the index searched for a query; more where a filter leaves few rows.

        Raises:
            CompatibilityError: if it has another dimension, or a row in a space that may not be searched.
        """

        def read(handle: Table) -> Snapshot:
            refuse_width(handle, table, rules)
            if index is None:
                kinds = kinds_of(handle)
                refuse_spaces(kinds, table, rules)
                rows = Rows.read(handle, table, rules.groups_of({provenance for provenance, _ in kinds}))
                sources = [Source.of(rows)]
            else:
                rows, standing = None, index.standing(handle)
                sources = [Source.of(index.rows, standing.there)]
                if len(standing.added):
                    batches = partial(taken, handle, standing.added, rows=BATCH_ROWS)
                    kinds = kinds_in(batches(list(KIND)))
                    refuse_spaces(kinds, table, rules)
                    groups = rules.groups_of({provenance for provenance, _ in kinds})
                    sources.append(Source.of(Rows.read(handle, table, groups, batches=batches)))
            return cls(
                table=table,
                rules=rules,
                count=int(handle.count_rows()),
                rows=rows,
                _sources=tuple(sources),
                _probes=probes,
            )

        return live.read(table, version, read)

    def search(self, queries: Queries, *, k: int, where: Filters | None = None, exhaustive: bool = False) -> Hits:
        """The rows that score highest.

        Args:
            queries: (Q, D) float32 of unit length; where several models search, the same queries by each.
            k: K, at least 1.
            where: Only rows that match.
            exhaustive: Compare every row where an index would propose some.

        Raises:
            CompatibilityError: if the queries have another dimension, are not of unit length, or lack a model's.
        """
        by_model = queries if isinstance(queries, Mapping) else {self.rules.query_model: queries}
        self._refuse(by_model)
        if k < 1:
            raise ParamsError(f"k is {k}; ask for at least 1 row")
        probes = None if exhaustive else self._probes
        return search(self._sources, by_model, k=k, where=where or Filters(), probes=probes)

    def _refuse(self, queries: Mapping[str, Vectors]) -> None:
        """Refuse queries that cannot search every row."""
        for model, dimension in self.rules.dimensions.items():
            if model not in queries:
                raise CompatibilityError(
                    f"table {self.table} is searched by {len(self.rules.dimensions)} models' queries, and those of "
                    f"{model[:12]} are missing; embed each query with every query model of its release"
                )
            mine = queries[model]
            if mine.ndim != 2 or mine.shape[1] != dimension:  # noqa: PLR2004 - Q, D
                raise CompatibilityError(
                    f"queries are {mine.shape}, table {self.table} has {dimension} dimensions; embed them with the "
                    "model of its release"
                )
            refuse_bad_vectors(mine, np.arange(len(mine)).astype(np.str_), where="queries")

    def recall_of_index(self, *, k: int, queries: int, seed: int = 1) -> float:
        """Share of the true K nearest rows that the index finds, for rows drawn as queries, themselves left out.

        A row searches its own group, for only that group's model made its vector.

        Raises:
            ArtifactError: if there is no index.
        """
        if self.rows is not None:
            raise ArtifactError(
                f"table {self.table}: its {self.count} rows are searched exactly; there is no index to judge"
            )
        rng = np.random.default_rng(seed)
        source = self._sources[0]
        shares: list[float] = []
        sizes = [len(part.vectors) for part in source.rows.parts]
        for part, chosen, size in zip(source.rows.parts, source.choose(Filters()), sizes, strict=True):
            drawn = rng.choice(size, min(size, -(-queries * size // sum(sizes))), replace=False)
            asked = part.vectors[np.sort(drawn)]
            found, true = (
                nearest_in(part, asked, k=k + 1, chosen=chosen, probes=probes)[0].tolist()
                for probes in (self._probes, None)
            )
            shares += [
                len((set(mine) & set(others)) - {own}) / max(1, len(set(others) - {own}))
                for mine, others, own in zip(found, true, np.sort(drawn).tolist(), strict=True)
            ]
        return float(np.mean(shares))
