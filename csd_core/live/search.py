"""Search in a snapshot of a live table: exact in memory, or through LanceDB's index where there are many rows.

Q queries, N rows, D dimensions, K answers. Similarity is the cosine, reckoned in double precision. Where several
models' queries search, each searches its own groups of rows, a map makes scores of each group's cosines, and the scores
merge the answers. Equal scores are ordered by id; so an exact answer depends neither on the order of the rows nor on
how a matrix product was cut up.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import and_, or_
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from lancedb.expr import Expr, col, lit
from lancedb.table import Table

from csd_core.live.exact import Doubles, cosines_of, search_exactly
from csd_core.live.filters import Filters
from csd_core.live.hits import WORDS, Hits, hits_of
from csd_core.live.memory import Rows
from csd_core.live.reader import LiveReader, kinds_of, refuse_spaces, refuse_width
from csd_core.live.rows import Vectors, refuse_bad_vectors, texts_of, vectors_of
from csd_core.live.rules import SearchGroup, SearchRules
from csd_core.retrieval.gallery import Provenance, padded
from csd_core.system.errors import ArtifactError, CompatibilityError, ParamsError, message_of

_DRAWN = ("id", "embedded_by", "adapters")

Queries = Vectors | Mapping[str, Vectors]
"""(Q, D) of the one query model, or those of each by its digest."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Snapshot:
    """One version of a table, as the queries of its models search it.

    Attributes:
        table: Its name.
        rules: Which models' queries search which rows.
        groups: Those that have rows.
        count: N.
        rows: In memory; None where there are more than `exact_rows`, and the index answers.
    """

    table: str
    rules: SearchRules
    groups: tuple[SearchGroup, ...]
    count: int
    rows: Rows | None
    _handle: Table
    _probes: int
    _only: Mapping[SearchGroup, Expr | None]
    """What leaves a group's rows alone, for LanceDB; None where the group has them all."""

    @classmethod
    def load(
        cls,
        live: LiveReader,
        table: str,
        rules: SearchRules,
        *,
        version: str | int | None = None,
        exact_rows: int = 200_000,
        probes: int = 20,
    ) -> "Snapshot":
        """Open a table at a version.

        Args:
            live: The gallery it is in.
            table: Its name.
            rules: Which models' queries search which rows.
            version: A tag or version; None for now. Later writes do not show.
            exact_rows: Up to so many rows search is exact, in memory.
            probes: Cells of the index searched for a query; more where a filter leaves too few rows in them.

        Raises:
            CompatibilityError: if it has another dimension, or a row in a space that may not be searched.
        """

        def read(handle: Table) -> Snapshot:
            refuse_width(handle, table, rules)
            count = int(handle.count_rows())
            kinds = kinds_of(handle)
            refuse_spaces(kinds, table, rules)
            groups = _with_rows(rules, {provenance for provenance, _ in kinds})
            return cls(
                table=table,
                rules=rules,
                groups=groups,
                count=count,
                rows=Rows.read(handle, table, groups) if count <= exact_rows else None,
                _handle=handle,
                _probes=probes,
                _only=_filters(groups, kinds),
            )

        return live.read(table, version, read)

    def search(self, queries: Queries, *, k: int, where: Filters | None = None) -> Hits:
        """The rows that score highest.

        Args:
            queries: (Q, D) float32 of unit length; where several models search, the same queries by each.
            k: K, at least 1.
            where: Only rows that match.

        Raises:
            CompatibilityError: if the queries have another dimension, are not of unit length, or lack a model's.
        """
        by_model = queries if isinstance(queries, Mapping) else {self.rules.query_model: queries}
        self._refuse(by_model)
        if k < 1:
            raise ParamsError(f"k is {k}; ask for at least 1 row")
        where = where or Filters()
        if self.rows is not None:
            return search_exactly(self.rows, by_model, k=k, where=where)
        return self._by_index(by_model, self.groups, k=k, where=where, exhaustive=False)

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
            ArtifactError: if the rows are few enough that search is exact.
        """
        if self.rows is not None:
            raise ArtifactError(
                f"table {self.table}: its {self.count} rows are searched exactly; there is no index to judge"
            )
        drawn = np.random.default_rng(seed).choice(self.count, min(queries, self.count), replace=False)
        sample = self._handle.take_offsets(sorted(drawn.tolist())).select([*_DRAWN, "vector"]).to_arrow()
        ids, vectors = texts_of(sample, "id"), vectors_of(sample)
        numbers = {provenance: at for at, group in enumerate(self.groups) for provenance in group.provenances}
        kinds = map(Provenance, texts_of(sample, "embedded_by").tolist(), texts_of(sample, "adapters").tolist())
        number = np.array([numbers.get(kind, 0) for kind in kinds])
        shares: list[float] = []
        for at, group in enumerate(self.groups):
            own, asked = ids[number == at], {group.query_model: vectors[number == at, : group.dimension]}
            found, true = (
                self._by_index(asked, [group], k=k + 1, where=Filters(), exhaustive=exhaustive).ids
                for exhaustive in (False, True)
            )
            shares += [
                len((set(mine) & set(others)) - {identity, ""}) / max(1, len(set(others) - {identity, ""}))
                for mine, others, identity in zip(found.tolist(), true.tolist(), own.tolist(), strict=True)
            ]
        return float(np.mean(shares))

    def _by_index(
        self, queries: Mapping[str, Vectors], groups: Sequence[SearchGroup], *, k: int, where: Filters, exhaustive: bool
    ) -> Hits:
        """Answers of LanceDB, a list for each group, merged; `exhaustive` reads every row."""
        lists = []
        for group in groups:
            terms = [each for each in (self._only[group], where.predicate()) if each is not None]
            predicate = reduce(and_, terms) if terms else None
            mine = queries[group.query_model]
            lists.append(
                [self._ask(query, predicate, k=k, exhaustive=exhaustive) for query in padded(mine, self.rules.width)]
            )
        count = len(queries[groups[0].query_model]) if groups else 0
        return _merged(queries, groups, [[each[number] for each in lists] for number in range(count)], k=k)

    def _ask(self, query: npt.NDArray[np.float32], predicate: Expr | None, *, k: int, exhaustive: bool) -> pa.Table:
        """LanceDB's answer to one query (W,)."""
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
            found: pa.Table = ask.select([*WORDS, "vector", "_distance"]).to_arrow()
        except RuntimeError as error:
            raise ArtifactError(
                f"table {self.table}: LanceDB cannot search it ({message_of(error)}); it may "
                "have been rewritten or dropped since it was opened: open it again"
            ) from None
        return found


def _filters(groups: Sequence[SearchGroup], kinds: Iterable[tuple[Provenance, str]]) -> dict[SearchGroup, Expr | None]:
    """What leaves each group's rows alone: their spaces where no other group has one, for that reads one column.

    Args:
        groups: That have rows; the first has those that no other names.
        kinds: Provenances and spaces of the rows.
    """
    first, *others = groups
    if not others:
        return {first: None}
    spaces: dict[SearchGroup, set[str]] = {group: set() for group in groups}
    for provenance, space in kinds:
        spaces[next((group for group in others if provenance in group.provenances), first)].add(space)
    if sum(map(len, spaces.values())) == len(set().union(*spaces.values())):
        return {
            group: reduce(or_, (col("space") == lit(each) for each in sorted(mine))) for group, mine in spaces.items()
        }
    named = {
        group: reduce(
            or_, ((col("embedded_by") == lit(model)) & (col("adapters") == lit(chain)) for model, chain in kind)
        )
        for group in others
        for kind in [sorted(group.provenances)]
    }
    return {first: ~reduce(or_, named.values()), **named}


def _with_rows(rules: SearchRules, provenances: set[Provenance]) -> tuple[SearchGroup, ...]:
    """The groups that have rows, at least one; the first has the rows that none names."""
    first, *others = rules.groups
    named = {provenance for group in rules.groups for provenance in group.provenances}
    found = [group for group in others if group.provenances & provenances]
    if not found or first.provenances & provenances or provenances - named:
        found = [first, *found]
    return tuple(found)


def _merged(
    queries: Mapping[str, Vectors], groups: Sequence[SearchGroup], answers: Sequence[Sequence[pa.Table]], *, k: int
) -> Hits:
    """LanceDB's answers in one array each, with scores and order as in an exact search.

    Args:
        queries: Query model -> (Q, D).
        groups: P of them.
        answers: Q of P lists, each of at most k rows.
        k: K.
    """
    width = max((min(k, sum(each.num_rows for each in mine)) for mine in answers), default=0)
    words = {name: np.full((len(answers), width), "", object) for name in (*WORDS, "found_by")}
    scores, cosines = (np.full((len(answers), width), -np.inf, np.float32) for _ in range(2))
    for number, mine in enumerate(answers):
        near: list[Doubles] = []
        for group, answer in zip(groups, mine, strict=True):
            every, asked = np.arange(answer.num_rows), np.full(answer.num_rows, number)
            rows = vectors_of(answer)[:, : group.dimension]
            near.append(cosines_of(rows, queries[group.query_model], query=asked, position=every))
        score = np.concatenate([group.score(each) for group, each in zip(groups, near, strict=True)])
        everything = pa.concat_tables(mine)
        order = np.lexsort((texts_of(everything, "id"), -score))[:k]
        count = len(order)
        scores[number, :count], cosines[number, :count] = score[order], np.concatenate(near)[order]
        found_by = [
            group.query_model for group, answer in zip(groups, mine, strict=True) for _ in range(answer.num_rows)
        ]
        words["found_by"][number, :count] = np.array(found_by, object)[order]
        for name in WORDS:
            words[name][number, :count] = texts_of(everything, name)[order]
    texts = {name: values.astype(np.str_) for name, values in words.items()}
    return hits_of(texts, scores, cosines, texts["found_by"])
