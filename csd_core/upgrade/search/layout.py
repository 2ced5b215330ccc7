"""Items in an order in which every way to serve them takes runs of rows from one source.

N items, of which Q ask, W ways, S scopes. Rows that no way and no scope tells apart form a cell. For one model's
queries, the vectors of one source are a view; under every way a cell is searched by one view, so however many ways
there are, the matrix products are those of the views.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from csd_core.records.ranking import ScoreMap
from csd_core.retrieval.inputs import vectors_of
from csd_core.retrieval.parts import Bools, Floats, Ints
from csd_core.system.errors import CompatibilityError
from csd_core.upgrade.evaluation_data import EvaluationData
from csd_core.upgrade.search.ways import Source, Way

NO_VIEW = -1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scope:
    """Some of the queries, which search some of the rows.

    Attributes:
        rows: (N,) which items are rows.
        queries: (Q,) which of the queries ask.
        ways: Numbers of the ways to search them in; None for all.
    """

    rows: Bools
    queries: Bools
    ways: range | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class View:
    """Vectors of a source and the queries that search them.

    Attributes:
        queries: (Q, D).
        vectors: (n, D).
        place: (N,) which of the vectors is each item's; -1 where it has none.
    """

    queries: Floats
    vectors: Floats
    place: Ints


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layout:
    """Items by cell, and by class within.

    Attributes:
        order: (N,) the items in this order.
        edges: (C + 1,) where each cell begins.
        classes: (N,) class number of each item.
        groups: (N,) number of each item's group, whose rows its own query leaves out.
        asked: (Q,) which items ask.
        views: What is searched.
        used: (W, C) view of each cell under each way.
        group: (W, C) group of each cell, whose cosines are compared as they are.
        maps: Of each way, the score map of each of its groups.
        within: (S, C) cells in each scope.
        scopes: The scopes.
        searched: (W, S) which ways are searched in each scope.
    """

    order: Ints
    edges: Ints
    classes: Ints
    groups: Ints
    asked: Ints
    views: tuple[View, ...]
    used: Ints
    group: Ints
    maps: tuple[tuple[ScoreMap, ...], ...]
    within: Bools
    scopes: tuple[Scope, ...]
    searched: Bools

    @classmethod
    def of(cls, evaluation: EvaluationData, ways: Iterable[Way], scopes: Sequence[Scope]) -> Self:
        """Return the layout of some ways, which need not be held at a time, and scopes.

        Raises:
            CompatibilityError: if a model's queries cannot search a row, or a vector is not finite.
        """
        numbers: dict[tuple[str, Source], int] = {}
        view_of: list[npt.NDArray[np.int16]] = []
        group_of: list[npt.NDArray[np.int16]] = []
        maps: list[tuple[ScoreMap, ...]] = []
        for way in ways:
            views, groups = (np.empty(len(evaluation.labels), np.int16) for _ in range(2))
            alike = way.alike()
            for number, group in enumerate(alike):
                for piece in group:
                    views[piece.rows] = numbers.setdefault((piece.query_model, piece.source), len(numbers))
                    groups[piece.rows] = number
            view_of.append(views)
            group_of.append(groups)
            maps.append(tuple(group[0].score for group in alike))
        classes = np.unique(evaluation.labels, return_inverse=True)[1]
        cell = _numbered([*view_of, *group_of, *(scope.rows for scope in scopes)])
        order = np.lexsort((classes, cell))
        edges = np.flatnonzero(np.diff(cell[order], prepend=-1, append=len(order)))
        first = order[edges[:-1]]
        return cls(
            order=order,
            edges=edges,
            classes=classes,
            groups=evaluation.groups_of(np.arange(len(classes))),
            asked=evaluation.asked,
            views=tuple(_view(evaluation, model, source) for model, source in numbers),
            used=np.stack([views[first] for views in view_of]).astype(np.intp),
            group=np.stack([groups[first] for groups in group_of]).astype(np.intp),
            maps=tuple(maps),
            within=np.array([scope.rows[first] for scope in scopes], np.bool_).reshape(len(scopes), len(first)),
            scopes=tuple(scopes),
            searched=np.array(
                [[scope.ways is None or way in scope.ways for scope in scopes] for way in range(len(maps))], np.bool_
            ),
        )

    def views_of(self, cell: int) -> list[int]:
        """Return the views that search a cell under some way."""
        return [int(view) for view in np.unique(self.used[:, cell])]


def _view(evaluation: EvaluationData, model: str, source: Source) -> View:
    vectors, place = evaluation.vectors(source)
    queries = vectors_of(evaluation.embedded(model)[evaluation.asked], "queries")
    if vectors.shape[1] < queries.shape[1]:
        raise CompatibilityError(
            f"queries have {queries.shape[1]} dimensions, the gallery {vectors.shape[1]}; backfill every row"
        )
    return View(queries=queries, vectors=vectors_of(vectors[:, : queries.shape[1]], "the gallery"), place=place)


def _numbered(columns: Sequence[npt.NDArray[np.int16] | Bools]) -> Ints:
    """(N,) one number for each combination of small whole numbers."""
    number, count = np.zeros(len(columns[0]), np.intp), 1
    for column in columns:
        size = int(column.max(initial=0)) + 1
        if count * size > np.iinfo(np.int32).max:
            known, number = np.unique(number, return_inverse=True)
            count = len(known)
        number *= size
        number += column
        count *= size
    return np.unique(number, return_inverse=True)[1]
