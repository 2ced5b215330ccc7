"""The check's queries class by class and one by one: counts, confusions and examples, without a look at `test`.

N items, of which Q ask. Whether a query hits is as measured over all rows; the rows that are named are never of `test`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from csd_core.records.by_class import (
    HANDFUL,
    ByClass,
    ClassQueries,
    ClassRecall,
    CloserLook,
    Confusion,
    QueriesByClass,
    SearchExample,
)
from csd_core.records.check import Alternative
from csd_core.retrieval.metrics import Bools, Ints, Recall
from csd_core.upgrade.evaluation_data import EvaluationData
from csd_core.upgrade.sampling import choose, evenly
from csd_core.upgrade.search.ways import Way

LISTED = 10
"""Classes of each kind, and confusions, that a record lists."""

LOOKED_AT = 1000
"""Missed queries whose wrong row is looked up."""

PICTURED = 2
"""Examples of a confusion."""

EXAMPLES = 8
"""Queries that are shown with what they find."""

SPARE = 4
"""Times as many are looked up, of which some cannot be shown."""

NEIGHBOURS = 4
"""Rows that each finds."""

BLOCK_ROWS = 4096
"""Rows that queries are compared with at a time."""

NOTHING = -1
"""Where there is no further row."""

Doubles = npt.NDArray[np.float64]
Strings = npt.NDArray[np.str_]


@dataclass(frozen=True, slots=True, eq=False)
class Classes:
    """The classes of the items.

    Attributes:
        names: (C,) in order.
        images: (C,) items of each.
        asked: (Q,) class number of each query.
    """

    names: Strings
    images: Ints
    asked: Ints

    @classmethod
    def of(cls, evaluation: EvaluationData) -> Self:
        """Return the classes of what is measured."""
        names, codes, images = np.unique(evaluation.labels, return_inverse=True, return_counts=True)
        return cls(names, images, codes[evaluation.asked])

    def count(self, chosen: Bools) -> Ints:
        """Return (C,) of some of the (Q,) queries, how many are of each class."""
        return np.bincount(self.asked[chosen], minlength=len(self.names))


def queries_by_class(classes: Classes, possible: Bools) -> QueriesByClass:
    """Count the queries of each class that is served.

    Args:
        classes: Of what is measured.
        possible: (Q,) whether a query can hit at all.
    """
    names, images, queries = classes.names, classes.images, classes.count(possible)
    fewest = np.lexsort((np.arange(len(names)), images, queries))[:LISTED]
    return QueriesByClass(
        classes=len(names),
        few=int((queries < HANDFUL).sum()),
        fewest=tuple(
            ClassQueries(name=str(names[each]), images=int(images[each]), queries=int(queries[each])) for each in fewest
        ),
    )


def by_class(classes: Classes, *, before: Recall | None, after: Recall) -> ByClass:
    """Count the hits of each class that has queries, and list the worst classes.

    Args:
        classes: Of what is measured.
        before: The queries under the status quo; None for a first model.
        after: The queries as they would be served.
    """
    queries, hits = classes.count(after.possible), classes.count(after.hits[:, 0])
    today = None if before is None else classes.count(before.hits[:, 0])
    have = np.flatnonzero(queries)
    recall = hits[have] / queries[have]
    chosen = set(have[np.lexsort((have, -queries[have], recall))[:LISTED]].tolist())
    if today is not None:
        fallen = (today - hits)[have]
        deepest = have[np.lexsort((have, -fallen))[:LISTED]]
        chosen |= {int(each) for each in deepest if today[each] > hits[each]}
    worst = sorted(chosen, key=lambda each: (hits[each] / queries[each], -queries[each], each))
    return ByClass(
        never_found=int((hits[have] == 0).sum()),
        worst=tuple(
            ClassRecall(
                name=str(classes.names[each]),
                images=int(classes.images[each]),
                queries=int(queries[each]),
                before=None if today is None else int(today[each]),
                after=int(hits[each]),
            )
            for each in worst
        ),
    )


def closer_look(
    evaluation: EvaluationData,
    alternative: Alternative,
    *,
    before: tuple[Way, Recall] | None,
    after: tuple[Way, Recall],
) -> CloserLook | None:
    """Return confusions and examples of a way to serve; None where no query counts, or the items have no ids.

    Args:
        evaluation: The measured items.
        alternative: The way to serve, as it was measured.
        before: The status quo and its outcome; None for a first model.
        after: What would be served and its outcome.
    """
    way, recall = after
    if not recall.queries or evaluation.ids is None:
        return None
    missed = np.flatnonzero(recall.possible & ~recall.hits[:, 0])
    looked_at = missed[evenly(len(missed), LOOKED_AT)]
    return CloserLook(
        strategy=alternative.strategy,
        share=alternative.share,
        missed=len(missed),
        looked_at=len(looked_at),
        confusions=tuple(_confusions(evaluation, evaluation.ids, way, looked_at)),
        examples=tuple(_examples(evaluation, evaluation.ids, before, after)),
    )


def _confusions(evaluation: EvaluationData, ids: Strings, way: Way, missed: Ints) -> Iterator[Confusion]:
    """Yield the most frequent pairs of a missed query's class and the class that it finds first."""
    items = evaluation.asked[missed]
    found = nearest_rows(evaluation, way, items, count=1, wrong_alone=True)[:, 0]
    pairs: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for item, row in zip(items[found != NOTHING], found[found != NOTHING], strict=True):
        names = str(evaluation.labels[item]), str(evaluation.labels[row])
        pairs.setdefault(names, []).append((str(ids[item]), str(ids[row])))
    for (asked, other), seen in sorted(pairs.items(), key=lambda pair: (-len(pair[1]), pair[0]))[:LISTED]:
        yield Confusion(asked=asked, found=other, times=len(seen), examples=tuple(seen[:PICTURED]))


def _examples(
    evaluation: EvaluationData, ids: Strings, before: tuple[Way, Recall] | None, after: tuple[Way, Recall]
) -> Iterator[SearchExample]:
    """Yield queries that are lost and gained, then others; for a first model those that miss, then others."""
    hit, possible = after[1].hits[:, 0], after[1].possible
    was = hit if before is None else before[1].hits[:, 0]
    outcomes = np.select([was & ~hit, ~was & hit, was & hit], ["lost", "gained", "kept"], default="missed")
    sort_by = outcomes if before else np.where(hit, "kept", "lost")
    labels = evaluation.labels[evaluation.asked]
    some = choose(sort_by, labels, possible=possible, count=EXAMPLES * SPARE)
    items = evaluation.asked[some]
    found = [
        nearest_rows(evaluation, served[0], items, count=NEIGHBOURS) if served else np.empty((len(items), 0), np.intp)
        for served in (before, after)
    ]
    agree = np.ones(len(some), np.bool_)  # where the row that made a query hit is of test, its pictures would mislead
    for rows, hits in zip(found, (was, hit), strict=True):
        if rows.shape[1]:
            agree &= (evaluation.labels[rows[:, 0]] == labels[some]) == hits[some]
    for place in choose(sort_by[some], labels[some], possible=agree, count=EXAMPLES):
        named = [tuple(str(ids[row]) for row in each[place] if row != NOTHING) for each in found]
        yield SearchExample(
            query=str(ids[items[place]]), outcome=outcomes[some[place]], before=named[0], after=named[1]
        )


def nearest_rows(evaluation: EvaluationData, way: Way, items: Ints, *, count: int, wrong_alone: bool = False) -> Ints:
    """Return (Q, count) the items that score highest for some queries; NOTHING where there are fewer.

    An item of `test` is never named, nor is one of the query's own group; a row's block is in memory at a time.

    Args:
        evaluation: The measured items.
        way: How they are served.
        items: (Q,) which of them ask.
        count: How many rows to find.
        wrong_alone: Leave out rows of the query's own class.
    """
    codes = np.unique(evaluation.labels, return_inverse=True)[1]
    scores, found = np.full((len(items), count), -np.inf), np.full((len(items), count), NOTHING)
    for piece in way.pieces:
        queries = evaluation.embedded(piece.query_model)[items]
        vectors, place = evaluation.vectors(piece.source)
        shown = piece.rows[evaluation.splits[piece.rows] != "test"]
        for start in range(0, len(shown), BLOCK_ROWS):
            rows = shown[start : start + BLOCK_ROWS]
            block = piece.score(queries @ vectors[place[rows], : queries.shape[1]].T)
            block[evaluation.groups_of(rows) == evaluation.groups_of(items)[:, None]] = -np.inf
            if wrong_alone:
                block[codes[rows] == codes[items][:, None]] = -np.inf
            scores, found = _highest(
                np.hstack([scores, block]), np.hstack([found, np.tile(rows, (len(items), 1))]), count
            )
    return np.where(scores == -np.inf, NOTHING, found)


def _highest(scores: Doubles, rows: Ints, count: int) -> tuple[Doubles, Ints]:
    """Return the highest scores of each line, highest first, with their rows; of equals the first row."""
    best = np.argpartition(-scores, count - 1, axis=1)[:, :count]
    scores, rows = np.take_along_axis(scores, best, axis=1), np.take_along_axis(rows, best, axis=1)
    order = np.lexsort((rows, -scores), axis=1)
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)
