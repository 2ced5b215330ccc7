"""What the queries find under each of several ways to serve the items."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from csd_core.records.check import Measurement, Recalls
from csd_core.retrieval.continual import recall_of_groups
from csd_core.retrieval.metrics import Bools, Ints, Recall
from csd_core.upgrade.evaluation_data import EvaluationData
from csd_core.upgrade.sampling import evenly
from csd_core.upgrade.search.layout import Layout, Scope
from csd_core.upgrade.search.precision import precisions
from csd_core.upgrade.search.ranks import recalls
from csd_core.upgrade.search.ways import Way

K = (1, 5, 10)

CURVE_QUERIES = 2000
"""Queries that choose the order of a partial backfill, whose share is then chosen on all of them, and that measure a
gallery of which a share is re-embedded."""

PRECISION_QUERIES = 2000
"""Queries of which mAP@R is the mean: it needs the largest of the wrong rows, where recall only counts them."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outcome:
    """A way to serve with the outcome of each query."""

    measurement: Measurement
    recall: Recall


def _recalls(recall: Recall, precision: npt.NDArray[np.float64], chosen: Bools) -> Recalls:
    some = recall.of(chosen)
    counted = precision[chosen & np.isfinite(precision)]
    return Recalls(
        queries=some.queries,
        excluded=some.excluded,
        at={k: some.at(k) for k in K},
        map_at_r=math.fsum(counted) / len(counted) if len(counted) else 0.0,  # exact, so in any order of rows
    )


def measure(
    evaluation: EvaluationData, ways: Sequence[Way], *, stored: Sequence[Way] = ()
) -> tuple[list[Outcome], list[Recall]]:
    """Serve all rows to the queries in some ways, and, in the same search, old rows to the queries of old items.

    Args:
        evaluation: The measured items.
        ways: Over all rows.
        stored: Over the old rows alone.

    Returns:
        The outcome of each of both.
    """
    asked = evaluation.asked
    old, tasks = evaluation.old[asked], evaluation.tasks[asked]
    everyone, names, served = np.ones_like(old), np.unique(tasks), range(len(ways))
    scopes = [replace(everything(evaluation), ways=served)]
    in_split = np.isin(evaluation.splits, np.unique(evaluation.splits[asked]))
    scopes.append(Scope(rows=in_split, queries=everyone, ways=served))
    scopes += [Scope(rows=evaluation.tasks == task, queries=tasks == task, ways=served) for task in names]
    scopes.append(Scope(rows=evaluation.old, queries=old, ways=range(len(ways), len(ways) + len(stored))))
    layout = Layout.of(evaluation, [*ways, *stored], scopes)
    ranked = fewer_queries(evaluation, PRECISION_QUERIES)
    precision = np.full((len(ways), len(asked)), np.nan)
    precision[:, ranked] = precisions(layout, ranked, ways=served)
    found = recalls(layout, K)
    outcomes = []
    for (recall, by_split, *by_task), values in zip(found[: len(ways)], precision, strict=True):
        outcomes.append(
            Outcome(
                measurement=Measurement(
                    overall=_recalls(recall, values, everyone),
                    old=_recalls(recall, values, old) if old.any() else None,
                    new=_recalls(recall, values, ~old) if not old.all() else None,
                    per_task=recall_of_groups(recall, tasks),
                    own_gallery={
                        str(task): each.at(1) for task, each in zip(names, by_task, strict=True) if each.queries
                    },
                    split_alone=by_split.at(1) if by_split.queries else None,
                    map_queries=len(ranked) if len(ranked) < len(asked) else None,
                ),
                recall=recall,
            )
        )
    return outcomes, [recall for (recall,) in found[len(ways) :]]


def everything(evaluation: EvaluationData) -> Scope:
    """Return all the queries and all the rows."""
    return Scope(rows=np.ones(len(evaluation.labels), np.bool_), queries=np.ones(len(evaluation.asked), np.bool_))


def search(evaluation: EvaluationData, ways: Iterable[Way]) -> list[Recall]:
    """Return the outcome of every query over all rows in some ways."""
    return [found for (found,) in recalls(Layout.of(evaluation, ways, [everything(evaluation)]), K)]


def fewer_queries(evaluation: EvaluationData, most: int) -> Ints:
    """Return which of the queries, at most so many, ask instead of all: the same ones in any order of items."""
    by_content = np.lexsort(evaluation.candidate[evaluation.asked].T)
    return np.sort(by_content[evenly(len(by_content), most)])


def with_fewer_queries(evaluation: EvaluationData, most: int = CURVE_QUERIES) -> EvaluationData:
    """Return the same with fewer queries."""
    return evaluation.asking(evaluation.asked[fewer_queries(evaluation, most)])
