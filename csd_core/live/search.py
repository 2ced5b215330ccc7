"""Search in a snapshot of a live table: exact in memory, or through LanceDB's index where there are many rows.

Q queries, N rows, D dimensions, K answers. Similarity is the cosine, reckoned in double precision, and equal ones are
ordered by id; so an exact answer depends neither on the order of the rows nor on how a matrix product was cut up.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from lancedb.table import Table

from csd_core.live.filters import Filters
from csd_core.live.memory import Rows, spaces_of
from csd_core.live.reader import LiveReader, refuse_dimension, refuse_spaces
from csd_core.live.rows import Strings, Vectors, refuse_bad_vectors, texts_of, vectors_of
from csd_core.system.errors import ArtifactError, CompatibilityError, ParamsError, message_of

WORDS = ("id", "label", "task", "embedded_by", "space", "origin")
BLOCK = 1 << 22
"""Similarities in memory at a time."""
_ROUNDING = 1e-5
"""More than a float32 product of unit vectors is off."""


class Hits(NamedTuple):
    """Answers to Q queries, K each, nearest first; where fewer rows match, ids are empty and scores -inf.

    Attributes:
        ids: (Q, K).
        labels: (Q, K).
        tasks: (Q, K).
        embedded_by: (Q, K) digest of the model that made the vector.
        spaces: (Q, K) digest of the model whose space it is in.
        origins: (Q, K) pipeline or live.
        scores: (Q, K) float32 cosine.
    """

    ids: Strings
    labels: Strings
    tasks: Strings
    embedded_by: Strings
    spaces: Strings
    origins: Strings
    scores: npt.NDArray[np.float32]

    def of(self, query: int, *, k: int) -> "Hits":
        """The first `k` answers to one query: (1, k)."""
        part = np.s_[query : query + 1, :k]
        return Hits(
            ids=self.ids[part],
            labels=self.labels[part],
            tasks=self.tasks[part],
            embedded_by=self.embedded_by[part],
            spaces=self.spaces[part],
            origins=self.origins[part],
            scores=self.scores[part],
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Snapshot:
    """One version of a table, as the queries of one model may search it.

    Attributes:
        table: Its name.
        dimension: D.
        count: N.
        rows: In memory; None where there are more than `exact_rows`, and the index answers.
    """

    table: str
    dimension: int
    count: int
    rows: Rows | None
    _handle: Table
    _probes: int

    @classmethod
    def load(
        cls,
        live: LiveReader,
        table: str,
        *,
        searchable_spaces: tuple[str, ...],
        dimension: int,
        version: str | int | None = None,
        exact_rows: int = 200_000,
        probes: int = 20,
    ) -> "Snapshot":
        """Open a table at a version.

        Args:
            live: The gallery it is in.
            table: Its name.
            searchable_spaces: Those the query model may search.
            dimension: Of the query model.
            version: A tag or version; None for now. Later writes do not show.
            exact_rows: Up to so many rows search is exact, in memory.
            probes: Cells of the index searched for a query; more where a filter leaves too few rows in them.

        Raises:
            CompatibilityError: if it has another dimension, or a row in a space that may not be searched.
        """

        def read(handle: Table) -> Snapshot:
            refuse_dimension(handle, table, dimension)
            count = int(handle.count_rows())
            refuse_spaces(spaces_of(handle), table, searchable_spaces)
            return cls(
                table=table,
                dimension=dimension,
                count=count,
                rows=Rows.read(handle, table) if count <= exact_rows else None,
                _handle=handle,
                _probes=probes,
            )

        return live.read(table, version, read)

    def search(self, queries: Vectors, *, k: int, where: Filters | None = None) -> Hits:
        """The nearest rows.

        Args:
            queries: (Q, D) float32 of unit length.
            k: K, at least 1.
            where: Only rows that match.

        Raises:
            CompatibilityError: if the queries have another dimension or are not of unit length.
        """
        if queries.ndim != 2 or queries.shape[1] != self.dimension:  # noqa: PLR2004 - Q, D
            raise CompatibilityError(
                f"queries are {queries.shape}, table {self.table} has {self.dimension} dimensions; embed them with the "
                "model of its release"
            )
        if k < 1:
            raise ParamsError(f"k is {k}; ask for at least 1 row")
        refuse_bad_vectors(queries, np.arange(len(queries)).astype(np.str_), where="queries")
        where = where or Filters()
        if self.rows is not None:
            return _exact(self.rows, queries, k=k, where=where)
        return self._by_index(queries, k=k, where=where, exhaustive=False)

    def recall_of_index(self, *, k: int, queries: int, seed: int = 1) -> float:
        """Share of the true K nearest rows that the index finds, for rows drawn as queries, themselves left out.

        Raises:
            ArtifactError: if the rows are few enough that search is exact.
        """
        if self.rows is not None:
            raise ArtifactError(
                f"table {self.table}: its {self.count} rows are searched exactly; there is no index to judge"
            )
        drawn = np.random.default_rng(seed).choice(self.count, min(queries, self.count), replace=False)
        sample = self._handle.take_offsets(sorted(drawn.tolist())).select(["id", "vector"]).to_arrow()
        own, vectors = texts_of(sample, "id"), vectors_of(sample)
        found, true = (
            self._by_index(vectors, k=k + 1, where=Filters(), exhaustive=exhaustive).ids for exhaustive in (False, True)
        )
        shares = [
            len((set(mine) & set(others)) - {identity, ""}) / max(1, len(set(others) - {identity, ""}))
            for mine, others, identity in zip(found.tolist(), true.tolist(), own.tolist(), strict=True)
        ]
        return float(np.mean(shares))

    def _by_index(self, queries: Vectors, *, k: int, where: Filters, exhaustive: bool) -> Hits:
        """Answers of LanceDB; `exhaustive` reads every row."""
        predicate = where.predicate()
        answers: list[pa.Table] = []
        for query in queries:
            ask: Any = self._handle.search(query, vector_column_name="vector")
            ask = ask.distance_type("cosine").limit(k)
            if exhaustive:
                ask = ask.bypass_vector_index()
            elif predicate is None:
                ask = ask.nprobes(self._probes)
            else:  # too few rows of these cells may match: then more cells are searched
                ask = ask.minimum_nprobes(self._probes).maximum_nprobes(0)
            if predicate is not None:
                ask = ask.where(predicate)
            try:
                answers.append(ask.select([*WORDS, "vector", "_distance"]).to_arrow())
            except RuntimeError as error:
                raise ArtifactError(
                    f"table {self.table}: LanceDB cannot search it ({message_of(error)}); it may "
                    "have been rewritten or dropped since it was opened: open it again"
                ) from None
        return _padded(queries, answers)


def _hits(words: dict[str, Strings], scores: npt.NDArray[np.float32]) -> Hits:
    return Hits(
        ids=words["id"],
        labels=words["label"],
        tasks=words["task"],
        embedded_by=words["embedded_by"],
        spaces=words["space"],
        origins=words["origin"],
        scores=scores,
    )


def _padded(queries: Vectors, answers: list[pa.Table]) -> Hits:
    """LanceDB's answers in one array each, with scores and order as in an exact search."""
    width = max((answer.num_rows for answer in answers), default=0)
    words = {name: np.full((len(queries), width), "", object) for name in WORDS}
    scores = np.full((len(queries), width), -np.inf, np.float32)
    for number, answer in enumerate(answers):
        count = answer.num_rows
        mine = _cosines(vectors_of(answer), queries, query=np.full(count, number), position=np.arange(count))
        order = np.lexsort((texts_of(answer, "id"), -mine))
        scores[number, :count] = mine[order]
        for name, values in words.items():
            values[number, :count] = texts_of(answer, name)[order]
    return _hits({name: values.astype(np.str_) for name, values in words.items()}, scores)


def _exact(rows: Rows, queries: Vectors, *, k: int, where: Filters) -> Hits:
    """The true answers, a block of similarities in memory at a time."""
    mask = where.mask(rows.facts)
    among = None if mask is None else np.flatnonzero(mask)
    vectors = rows.vectors if among is None else rows.vectors[among]
    k = min(k, len(vectors))
    step = max(1, BLOCK // max(1, len(vectors)))
    positions = np.empty((len(queries), k), np.intp)
    scores = np.empty((len(queries), k), np.float32)
    if k:
        for start in range(0, len(queries), step):
            some = slice(start, start + step)
            positions[some], scores[some] = _nearest(vectors, queries[some], k=k)
    if among is not None:
        positions = among[positions]
    answers = rows.texts(WORDS, positions.reshape(-1))
    return _hits({name: texts_of(answers, name).reshape(positions.shape) for name in WORDS}, scores)


def _nearest(vectors: Vectors, queries: Vectors, *, k: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Positions and scores (q, k) of the k nearest of n >= k vectors; of equal ones the first."""
    rough = queries @ vectors.T  # (q, n)
    bound = np.partition(rough, len(vectors) - k, axis=1)[:, [len(vectors) - k]] - _ROUNDING  # (q, 1)
    query, position = np.nonzero(rough >= bound)  # (m,), m >= q k
    exact = _cosines(vectors, queries, query=query, position=position)
    order = np.lexsort((position, -exact, query))
    starts = np.searchsorted(
        query, np.arange(len(queries))
    )  # np.nonzero goes through queries in order, as lexsort does
    best = order[starts[:, None] + np.arange(k)]  # (q, k)
    return position[best], exact[best]


def _cosines(
    vectors: Vectors, queries: Vectors, *, query: npt.NDArray[np.intp], position: npt.NDArray[np.intp]
) -> npt.NDArray[np.float64]:
    """(m,) similarities of pairs, each reckoned alone in double precision; a chunk of them in memory at a time."""
    exact = np.empty(len(query), np.float64)
    step = max(1, BLOCK // queries.shape[1])
    for start in range(0, len(query), step):
        some = slice(start, start + step)
        left, right = queries[query[some]].astype(np.float64), vectors[position[some]].astype(np.float64)
        exact[some] = np.einsum("md,md->m", left, right)
    return exact
