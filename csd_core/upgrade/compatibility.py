"""What promoting a candidate would do to search, measured on the previous gallery's stored rows.

N measured items (one split's rows alone, so that training images never flatter a figure), N_old of which were in the
gallery before; Q of them are queries, a query's own row left out.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from csd_core.records.check import Alternative, CrossTest, Measurement, Paired, PartialCurve, PartialCurves, Recalls
from csd_core.retrieval.continual import recall_of_groups, recall_on_own_gallery
from csd_core.retrieval.metrics import Bools, Floats, Recall, map_at_r, recall_at
from csd_core.upgrade.backfill.orders import area_under
from csd_core.upgrade.evaluation_data import EvaluationData
from csd_core.upgrade.plans import UpgradePlan
from csd_core.upgrade.sampling import evenly
from csd_core.upgrade.strategies import Adapt, NoGallery, PartialBackfill, Situation, UpgradeStrategy

K = (1, 5, 10)

CURVE_QUERIES = 2000
"""Queries that choose the order of a partial backfill; the share is then chosen on all of them."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Outcome:
    """A way to serve with the outcome of each query."""

    measurement: Measurement
    recall: Recall


def _search(evaluation: EvaluationData, queries: Floats, rows: Floats) -> Recall:
    labels, asked = evaluation.labels, evaluation.asked
    return recall_at(queries[asked], rows, query_labels=labels[asked], gallery_labels=labels, k=K, self_index=asked)


def _recalls(recall: Recall, precision: npt.NDArray[np.float64], chosen: Bools) -> Recalls:
    some = recall.of(chosen)
    counted = precision[chosen & recall.possible]
    return Recalls(
        queries=some.queries,
        excluded=some.excluded,
        at={k: some.at(k) for k in K},
        map_at_r=math.fsum(counted) / len(counted) if len(counted) else 0.0,  # exact, so in any order of rows
    )


def _measure(evaluation: EvaluationData, *, queries: Floats, rows: Floats) -> _Outcome:
    """Serve `rows` (N, D) to the queries among `queries` (N, D)."""
    labels, asked = evaluation.labels, evaluation.asked
    old = evaluation.old[asked]
    recall = _search(evaluation, queries, rows)
    precision = map_at_r(queries[asked], rows, query_labels=labels[asked], gallery_labels=labels, self_index=asked)
    everything = np.ones_like(old)
    return _Outcome(
        measurement=Measurement(
            overall=_recalls(recall, precision, everything),
            old=_recalls(recall, precision, old) if old.any() else None,
            new=_recalls(recall, precision, ~old) if not old.all() else None,
            per_task=recall_of_groups(recall, evaluation.tasks[asked]),
            own_gallery=recall_on_own_gallery(
                queries[asked], rows, labels=labels, groups=evaluation.tasks, asked=asked
            ),
        ),
        recall=recall,
    )


def paired(first: Recall, second: Recall, chosen: Bools) -> Paired:
    """Compare the same queries at top 1 under two systems.

    Args:
        first: The reference.
        second: What it is compared with.
        chosen: (N,) the queries that are meant; those without a possible hit do not count.
    """
    counted = chosen & first.possible & second.possible
    before, after = first.hits[:, 0] & counted, second.hits[:, 0] & counted
    return Paired(queries=int(counted.sum()), lost=int((before & ~after).sum()), gained=int((after & ~before).sum()))


def kept(today: Recall, *, first: Recall, second: Recall) -> Paired:
    """Compare, of the queries that hit today, what two other systems keep; every query that counts is in `queries`."""
    counted = today.possible & first.possible & second.possible
    hits = today.hits[:, 0] & counted
    before, after = first.hits[:, 0] & hits, second.hits[:, 0] & hits
    return Paired(queries=int(counted.sum()), lost=int((before & ~after).sum()), gained=int((after & ~before).sum()))


def _groups(evaluation: EvaluationData) -> dict[str, Bools]:
    old, tasks = evaluation.old[evaluation.asked], evaluation.tasks[evaluation.asked]
    groups = {"overall": np.ones_like(old)}
    if old.any():
        groups["old"] = old
        for task in np.unique(tasks[old]):
            groups[f"task:{task}"] = old & (tasks == task)
    return groups


def compare(
    evaluation: EvaluationData, situation: Situation, strategies: Sequence[UpgradeStrategy]
) -> tuple[Measurement | None, tuple[Alternative, ...]]:
    """Measure the status quo and every way to serve the candidate.

    Args:
        evaluation: The measured items.
        situation: The whole gallery and the candidate.
        strategies: Ways to serve, cheapest first; ignored for a first model, which has only `none`.

    Returns:
        The status quo (None for a first model), and the alternatives in the order given.
    """
    quo_rows = evaluation.status_quo_rows()
    if quo_rows is None or evaluation.champion is None:
        outcome = _measure(evaluation, queries=evaluation.candidate, rows=evaluation.candidate)
        return None, (_alternative(NoGallery(), NoGallery().plan(situation), situation, outcome, {}, None),)
    quo = _measure(evaluation, queries=evaluation.champion, rows=quo_rows)
    groups = _groups(evaluation)
    ideal = _search(evaluation, evaluation.candidate, evaluation.candidate)
    alternatives = []
    for strategy in strategies:
        reason = strategy.why_not(situation)
        if reason:
            alternatives.append(_impossible(strategy, reason))
            continue
        plan = strategy.plan(situation)
        outcome = _measure(evaluation, queries=evaluation.candidate, rows=evaluation.rows(plan))
        against = {name: paired(quo.recall, outcome.recall, chosen) for name, chosen in groups.items()}
        excess = kept(quo.recall, first=ideal, second=outcome.recall)
        alternatives.append(_alternative(strategy, plan, situation, outcome, against, excess))
    return quo.measurement, tuple(alternatives)


def _alternative(
    strategy: UpgradeStrategy,
    plan: UpgradePlan,
    situation: Situation,
    outcome: _Outcome,
    against: dict[str, Paired],
    excess: Paired | None,
) -> Alternative:
    return Alternative(
        strategy=strategy.name,
        share=strategy.share,
        possible=True,
        why_not=None,
        rows_embedded=int(plan.embed.sum()),
        rows_mapped=int(plan.mapped(situation.gallery).sum()),
        measured=outcome.measurement,
        against_status_quo=against,
        hits_against_backfill=excess,
    )


def _impossible(strategy: UpgradeStrategy, reason: str) -> Alternative:
    return Alternative(
        strategy=strategy.name,
        share=strategy.share,
        possible=False,
        why_not=reason,
        rows_embedded=0,
        rows_mapped=0,
        measured=None,
        against_status_quo={},
    )


def recall_under(evaluation: EvaluationData, plan: UpgradePlan) -> float:
    """Recall@1 of all the candidate's queries over the rows of a plan."""
    return _search(evaluation, evaluation.candidate, evaluation.rows(plan)).at(1)


def cross_test(evaluation: EvaluationData, situation: Situation | None = None) -> CrossTest | None:
    """Both models' queries of old items on the stored rows; None where they cannot meet.

    Args:
        evaluation: The measured items.
        situation: The whole gallery with the candidate's adapters; None leaves the adapted rows out.
    """
    if evaluation.champion is None or not evaluation.old[evaluation.asked].any():
        return None
    if evaluation.candidate.shape[1] != evaluation.stored.vectors.shape[1]:
        return None
    place = np.cumsum(evaluation.old) - 1  # (N,) an old item's row among the stored ones
    asked = evaluation.asked[evaluation.old[evaluation.asked]]
    labels, own = evaluation.labels[evaluation.old], place[asked]

    def search(queries: Floats, rows: Floats) -> Recall:
        return recall_at(
            queries[asked],
            rows,
            query_labels=evaluation.labels[asked],
            gallery_labels=labels,
            k=K,
            self_index=own,
        )

    everything = np.ones(len(asked), np.bool_)
    by_champion = search(evaluation.champion, evaluation.stored.vectors)
    if not by_champion.queries:
        return None
    by_candidate = search(evaluation.candidate, evaluation.stored.vectors)
    adapted = None
    if situation and not Adapt().why_not(situation):
        mapped = evaluation.rows(Adapt().plan(situation))[evaluation.old]
        adapted = paired(by_champion, search(evaluation.candidate, mapped), everything)
    return CrossTest(
        self_test=by_champion.at(1),
        cross_test=by_candidate.at(1),
        paired=paired(by_champion, by_candidate, everything),
        adapted=adapted,
    )


def partial_curves(evaluation: EvaluationData, situation: Situation) -> PartialCurves | None:
    """Return how far a share of the old rows gets, in each order; None where no partial backfill is possible.

    Args:
        evaluation: Of `select`, where the order is chosen.
        situation: The whole gallery and the candidate.
    """
    by_content = np.lexsort(evaluation.candidate[evaluation.asked].T)  # the same queries in any order of items
    some = np.sort(evaluation.asked[by_content[evenly(len(by_content), CURVE_QUERIES)]])
    evaluation = replace(evaluation, asked=some)
    settings = situation.settings.partial
    first = PartialBackfill(share=0.0, order=settings.orders[0], rest=settings.rest)
    if not settings.shares or not evaluation.old.any() or first.why_not(situation):
        return None
    curves = []
    shares = (0.0, *settings.shares, 1.0)
    ends = {
        share: recall_under(evaluation, replace(first, share=share).plan(situation)) for share in (0.0, 1.0)
    }  # the same in every order
    for order in settings.orders:
        recalls = tuple(
            ends[share]
            if share in ends
            else recall_under(evaluation, replace(first, share=share, order=order).plan(situation))
            for share in shares
        )
        curves.append(PartialCurve(order=order, shares=shares, recalls=recalls, area=area_under(shares, recalls)))
    best = max(curves, key=lambda curve: curve.area)
    return PartialCurves(order=best.order, rest=settings.rest, curves=tuple(curves))
