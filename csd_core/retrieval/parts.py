"""Exact search in a gallery whose rows may lie in several spaces: cosines of each part alone, a block at a time.

N queries, G gallery rows in P parts. The rows of a part are searched by one model's queries, and a map of its own makes
scores of their cosines; with one part the cosines are compared as they are.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from csd_core.records.ranking import GroupScoring, Identity, ScoreMap
from csd_core.retrieval.gallery import Provenance
from csd_core.retrieval.inputs import labels_of, own_groups, refuse_other_kinds, vectors_of
from csd_core.system.errors import CompatibilityError

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.intp]
Bools = npt.NDArray[np.bool_]

IDENTITY = Identity()

BLOCK_BYTES = 4 * 2**20
"""Similarities held at a time: few enough to stay in a cache."""

BLOCK_QUERIES = 64
"""But at least those of so many queries: with fewer the matrix product waits for the gallery to come from memory."""


GALLERY_BLOCK = 65_536
"""Rows of which the nearest are kept at a time."""

NOTHING = -1
"""In place of a row where there is no further one."""


def block_length(rows: int) -> int:
    """Queries compared with a gallery of `rows` rows at a time."""
    return max(BLOCK_QUERIES, BLOCK_BYTES // max(1, 4 * rows))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """Rows that the queries of one model search.

    Attributes:
        queries: (N, D) every query, as the model embeds it.
        rows: (n, D) vectors.
        positions: (n,) which of the gallery's G rows they are; None for all of them.
        score: Makes scores of cosines; strictly increasing.
    """

    queries: npt.ArrayLike
    rows: npt.ArrayLike
    positions: Ints | None = None
    score: ScoreMap = IDENTITY


def parts_of(
    vectors: Floats,
    kinds: Mapping[Provenance, Ints],
    scoring: Sequence[GroupScoring],
    *,
    query_model: str,
    queries: Callable[[str], Floats],
) -> list[Part]:
    """Return a mixed gallery in parts: rows that one model's queries search by one map are one part.

    Args:
        vectors: (G, W) rows; narrower ones end in zeros.
        kinds: Provenance -> positions of its rows; together each row once.
        scoring: How rows of some provenances are searched.
        query_model: Digest of the model whose queries search all other rows, by cosine.
        queries: From a model's digest to (N, D) every query.
    """
    if not kinds:
        nothing = queries(query_model)
        return [Part(queries=nothing, rows=vectors[:0, : nothing.shape[1]], positions=np.empty(0, np.intp))]
    known = {Provenance(group.embedded_by, group.adapters): group for group in scoring}
    alike: dict[str, list[Ints]] = {}
    ways: dict[str, tuple[str, ScoreMap]] = {}
    for provenance, positions in kinds.items():
        group = known.get(provenance)
        way = (group.query_model, group.score) if group else (query_model, IDENTITY)
        name = f"{way[0]} {way[1].model_dump_json()}"
        ways[name] = way
        alike.setdefault(name, []).append(positions)
    parts = []
    for name, held in alike.items():
        model, score = ways[name]
        positions, asked = np.sort(np.concatenate(held)), queries(model)
        parts.append(Part(queries=asked, rows=vectors[positions, : asked.shape[1]], positions=positions, score=score))
    return parts


def nearest(parts: Sequence[Part], asked: Ints, *, own: Ints, count: int, groups: Ints | None = None) -> Ints:
    """Return (Q, count) positions of the rows that score highest for some queries; the first row wins a tie.

    Args:
        parts: Of the gallery.
        asked: (Q,) which queries.
        own: (Q,) number of each query's own group, whose rows are left out.
        count: How many; fewer where there are fewer rows, and NOTHING where a query has fewer than others.
        groups: (G,) number of each row's group; by default its position.
    """
    scores = np.empty((len(asked), 0))
    found = np.empty((len(asked), 0), np.intp)
    for part in parts:
        queries, rows = np.asarray(part.queries)[asked], np.asarray(part.rows)
        positions = np.arange(len(rows)) if part.positions is None else part.positions
        for start in range(0, len(rows), GALLERY_BLOCK):
            some = positions[start : start + GALLERY_BLOCK]
            block = part.score(queries @ rows[start : start + GALLERY_BLOCK].T)
            block[(some if groups is None else groups[some]) == own[:, None]] = -np.inf
            scores = np.concatenate([scores, block], axis=1)
            found = np.concatenate([found, np.broadcast_to(some, block.shape)], axis=1)
            order = np.lexsort((found, -scores), axis=1)[:, : count + 1]
            scores, found = np.take_along_axis(scores, order, axis=1), np.take_along_axis(found, order, axis=1)
    rows_in_all = sum(len(np.asarray(part.rows)) for part in parts)
    return np.where(scores == -np.inf, NOTHING, found)[:, : min(count, rows_in_all - 1)]


@dataclass(frozen=True, slots=True, eq=False)
class _SortedPart:
    """A part whose rows lie class by class.

    Attributes:
        queries: (N, D).
        rows: (n, D).
        bounds: (C + 1,) where each class begins.
        by_group: (n,) the rows, group by group.
        own: (N, 2) where the rows of a query's own group begin and end in `by_group`.
        score: As in `Part`.
    """

    queries: Floats
    rows: Floats
    bounds: Ints
    by_group: Ints
    own: Ints
    score: ScoreMap

    def left_out(self, asked: Ints) -> tuple[Ints, Ints]:
        """Return which of some queries leave out which rows, pair by pair."""
        begins, ends = self.own[asked].T
        lengths = ends - begins
        query = np.repeat(np.arange(len(asked)), lengths)
        within = np.arange(len(query)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return query, self.by_group[begins[query] + within]


@dataclass(frozen=True, slots=True, eq=False)
class Search:
    """A gallery in parts, and queries class by class.

    Attributes:
        parts: P of them.
        rows: G.
        codes: (N,) number of each query's class.
        order: (N,) queries by class.
    """

    parts: tuple[_SortedPart, ...]
    rows: int
    codes: Ints
    order: Ints

    @classmethod
    def prepare(
        cls,
        parts: Sequence[Part],
        query_labels: npt.ArrayLike,
        gallery_labels: npt.ArrayLike,
        own: npt.ArrayLike | None,
        groups: npt.ArrayLike | None,
    ) -> Self:
        """Check what is given and sort it by class.

        Raises:
            CompatibilityError: if shapes, kinds of labels or positions do not fit, or a vector is not finite.
        """
        row_labels, asked_labels = labels_of(gallery_labels, "gallery"), labels_of(query_labels, "query")
        vectors = [(vectors_of(part.queries, "queries"), vectors_of(part.rows, "the gallery")) for part in parts]
        held = [
            np.arange(len(rows)) if part.positions is None else part.positions
            for part, (_, rows) in zip(parts, vectors, strict=True)
        ]
        for at, (asked, rows) in zip(held, vectors, strict=True):
            if rows.shape[1] != asked.shape[1]:
                raise CompatibilityError(
                    f"queries are {_shape(asked)}, the gallery {_shape(rows)}: both must be N x D with the same D; "
                    "re-embed the gallery with the model of the queries"
                )
            if len(asked_labels) != len(asked) or len(at) != len(rows):
                raise _wrong_lengths(asked_labels, asked, row_labels, rows)
        covered = np.concatenate(held)
        if len(row_labels) != len(covered) or len(np.unique(covered)) != len(covered):
            raise _wrong_lengths(asked_labels, vectors[0][0], row_labels, covered)
        refuse_other_kinds(asked_labels, row_labels)
        of_queries, of_rows = own_groups(own, groups, queries=len(asked_labels), rows=len(row_labels))
        classes, codes = np.unique(np.concatenate([row_labels, asked_labels]), return_inverse=True)
        row_codes, asked_codes = codes[: len(row_labels)], codes[len(row_labels) :]
        sorted_parts = tuple(
            _sorted(asked, rows, at, part.score, codes=row_codes, own=of_queries, groups=of_rows, classes=len(classes))
            for part, at, (asked, rows) in zip(parts, held, vectors, strict=True)
        )
        return cls(sorted_parts, len(row_labels), asked_codes, np.argsort(asked_codes, kind="stable"))

    def blocks(self) -> Iterator[tuple[Ints, list[Floats]]]:
        """Yield query positions and, of each part, their (B, n) similarities, the rows of a query's group at -inf."""
        size = block_length(self.rows)
        buffers = [np.empty((min(size, len(self.order)), len(part.rows)), np.float32) for part in self.parts]
        for start in range(0, len(self.order), size):
            asked = self.order[start : start + size]
            found = []
            for part, buffer in zip(self.parts, buffers, strict=True):
                similar = np.matmul(part.queries[asked], part.rows.T, out=buffer[: len(asked)])
                similar[part.left_out(asked)] = -np.inf
                found.append(similar)
            yield asked, found

    def classes(self, asked: Ints) -> Iterator[tuple[slice, list[slice]]]:
        """Yield, for each class in a block, its queries in the block and its rows in each part."""
        codes = self.codes[asked]
        edges = [0, *(np.flatnonzero(codes[1:] != codes[:-1]) + 1).tolist(), len(asked)]
        for begin, end in pairwise(edges):
            code = codes[begin]
            yield (
                slice(begin, end),
                [slice(int(part.bounds[code]), int(part.bounds[code + 1])) for part in self.parts],
            )


def _sorted(
    asked: Floats, rows: Floats, at: Ints, score: ScoreMap, *, codes: Ints, own: Ints, groups: Ints, classes: int
) -> _SortedPart:
    """Sort a part by class.

    Args:
        asked: (N, D) queries.
        rows: (n, D) vectors.
        at: (n,) positions in the gallery.
        score: Makes scores of cosines.
        codes: (G,) class numbers of the gallery.
        own: (N,) number of a query's own group, or -1.
        groups: (G,) number of each row's group.
        classes: C.
    """
    mine = codes[at]
    if np.any(mine[:-1] > mine[1:]):
        by_class = np.argsort(mine, kind="stable")
        rows, at, mine = rows[by_class], at[by_class], mine[by_class]
    by_group = np.argsort(groups[at], kind="stable")
    ranked = groups[at[by_group]]
    begins, ends = (np.searchsorted(ranked, own, side=side) for side in ("left", "right"))
    return _SortedPart(
        queries=asked,
        rows=rows,
        bounds=np.searchsorted(mine, np.arange(classes + 1)),
        by_group=by_group,
        own=np.stack([begins, np.where(own < 0, begins, ends)], axis=1),
        score=score,
    )


def _wrong_lengths(
    query_labels: npt.NDArray[Any], queries: npt.NDArray[Any], row_labels: npt.NDArray[Any], rows: npt.NDArray[Any]
) -> CompatibilityError:
    return CompatibilityError(
        f"{len(query_labels)} labels for {len(queries)} queries, {len(row_labels)} for {len(rows)} gallery rows: "
        "give one label for each"
    )


def _shape(array: npt.NDArray[Any]) -> str:
    return " x ".join(map(str, array.shape))
