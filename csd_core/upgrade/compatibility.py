"""What promoting a candidate would do to search, measured on the gallery that would be served.

N items that are served, N_old of which were in the gallery before; Q of them, of one split, are queries, a query's own
row left out.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from csd_core.records.check import Alternative, CrossTest, Measurement, Paired, PartialCurve, PartialCurves, Recalls
from csd_core.retrieval.continual import recall_of_groups
from csd_core.retrieval.metrics import Bools, Part, Recall, map_over, recall_over
from csd_core.upgrade.backfill.orders import area_under
from csd_core.upgrade.evaluation_data import EvaluationData
from csd_core.upgrade.plans import UpgradePlan
from csd_core.upgrade.sampling import evenly
from csd_core.upgrade.scores import with_scores
from csd_core.upgrade.strategies import (
    Adapt,
    Backfill,
    Keep,
    NoGallery,
    PartialBackfill,
    Situation,
    UpgradeStrategy,
)

K = (1, 5, 10)

CURVE_QUERIES = 2000
"""Queries that choose the order of a partial backfill, whose share is then chosen on all of them, and that show what
users see while a backfill runs."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Outcome:
    """A way to serve with the outcome of each query."""

    measurement: Measurement
    recall: Recall


def _search(evaluation: EvaluationData, parts: Sequence[Part]) -> Recall:
    labels, asked = evaluation.labels, evaluation.asked
    return recall_over(parts, query_labels=labels[asked], gallery_labels=labels, k=K, self_index=asked)


def _among(evaluation: EvaluationData, parts: Sequence[Part], *, rows: Bools, queries: Bools) -> Recall:
    """Search some of the rows for some of the queries, whose own rows are among them.

    Args:
        evaluation: The measured items.
        parts: Of all rows.
        rows: (N,) which items are rows.
        queries: (Q,) which of the queries ask.
    """
    place = np.cumsum(rows) - 1
    some = [
        Part(
            queries=np.asarray(part.queries)[queries],
            rows=np.asarray(part.rows)[rows[part.positions]],
            positions=place[part.positions[rows[part.positions]]],
            score=part.score,
        )
        for part in parts
        if part.positions is not None
    ]
    asked = evaluation.asked[queries]
    return recall_over(
        some,
        query_labels=evaluation.labels[asked],
        gallery_labels=evaluation.labels[rows],
        k=K,
        self_index=place[asked],
    )


def _recalls(recall: Recall, precision: npt.NDArray[np.float64], chosen: Bools) -> Recalls:
    some = recall.of(chosen)
    counted = precision[chosen & recall.possible]
    return Recalls(
        queries=some.queries,
        excluded=some.excluded,
        at={k: some.at(k) for k in K},
        map_at_r=math.fsum(counted) / len(counted) if len(counted) else 0.0,  # exact, so in any order of rows
    )


def _measure(evaluation: EvaluationData, parts: Sequence[Part]) -> _Outcome:
    """Serve all rows to the queries."""
    labels, asked = evaluation.labels, evaluation.asked
    old, tasks = evaluation.old[asked], evaluation.tasks[asked]
    recall = _search(evaluation, parts)
    precision = map_over(parts, query_labels=labels[asked], gallery_labels=labels, self_index=asked)
    everything = np.ones_like(old)
    own = {
        str(task): _among(evaluation, parts, rows=evaluation.tasks == task, queries=tasks == task)
        for task in np.unique(tasks)
    }
    splits = np.unique(evaluation.splits[asked])
    alone = _among(evaluation, parts, rows=np.isin(evaluation.splits, splits), queries=everything)
    return _Outcome(
        measurement=Measurement(
            overall=_recalls(recall, precision, everything),
            old=_recalls(recall, precision, old) if old.any() else None,
            new=_recalls(recall, precision, ~old) if not old.all() else None,
            per_task=recall_of_groups(recall, tasks),
            own_gallery={task: found.at(1) for task, found in own.items() if found.queries},
            split_alone=alone.at(1) if alone.queries else None,
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
    evaluation: EvaluationData,
    situation: Situation,
    strategies: Sequence[UpgradeStrategy],
    scored: Callable[[UpgradePlan], UpgradePlan],
) -> tuple[Measurement | None, tuple[Alternative, ...]]:
    """Measure the status quo and every way to serve the candidate.

    Args:
        evaluation: The measured items.
        situation: The whole gallery and the candidate.
        strategies: Ways to serve, cheapest first; ignored for a first model, which has only `none`.
        scored: Gives a plan its scores.

    Returns:
        The status quo (None for a first model), and the alternatives in the order given.
    """
    before = today(evaluation)
    if before is None:
        plan = NoGallery().plan(situation)
        outcome = _measure(evaluation, parts_after(evaluation, plan))
        return None, (_alternative(NoGallery(), plan, situation, outcome, {}, None),)
    quo = _measure(evaluation, before)
    groups = _groups(evaluation)
    ideal = _search(evaluation, parts_after(evaluation, Backfill().plan(situation)))
    alternatives = []
    for strategy in strategies:
        reason = strategy.why_not(situation)
        if reason:
            alternatives.append(_impossible(strategy, reason))
            continue
        plan = scored(strategy.plan(situation))
        outcome = _measure(evaluation, parts_after(evaluation, plan))
        against = {name: paired(quo.recall, outcome.recall, chosen) for name, chosen in groups.items()}
        excess = kept(quo.recall, first=ideal, second=outcome.recall)
        alternatives.append(_alternative(strategy, plan, situation, outcome, against, excess))
    return quo.measurement, tuple(alternatives)


def today(evaluation: EvaluationData) -> list[Part] | None:
    """Return what the queries search without an upgrade; None for a first model."""
    rows, gallery = evaluation.rows_before(), evaluation.stored
    if rows is None or gallery.query_model is None:
        return None
    return evaluation.parts(rows, gallery.scoring, query_model=gallery.query_model)


def parts_after(evaluation: EvaluationData, plan: UpgradePlan) -> list[Part]:
    """Return what the queries search after an upgrade."""
    return evaluation.parts(evaluation.rows_after(plan), plan.scoring, query_model=plan.model)


def scores_on(select: EvaluationData, situation: Situation) -> Callable[[UpgradePlan], UpgradePlan]:
    """Return what gives a plan its scores, fitted and chosen on `select`; without such items cosines are scores.

    Args:
        select: The items, of which those of `select` ask.
        situation: The whole gallery and the candidate.
    """
    asking = fewer_queries(select)
    before = today(asking)
    if before is None:
        return lambda plan: plan
    outcome = _search(asking, before) if len(asking.asked) else None
    known: dict[Hashable, UpgradePlan] = {}  # a plan is measured on `select` and on `gate`

    def scored(plan: UpgradePlan) -> UpgradePlan:
        way = (plan.strategy, plan.share, frozenset(plan.query_models.items()))
        if way not in known:
            known[way] = with_scores(plan, asking, outcome, situation.gallery)
        return known[way]

    return scored


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
        query_models=len({plan.model, *(group.query_model for group in plan.scoring)}),
        scoring=plan.scoring,
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
    return _search(evaluation, parts_after(evaluation, plan)).at(1)


def cross_test(evaluation: EvaluationData, situation: Situation) -> CrossTest | None:
    """Both models' queries of old items on the stored rows; None where they cannot meet.

    Args:
        evaluation: The measured items.
        situation: The whole gallery with the candidate's adapters.
    """
    before, asks = today(evaluation), evaluation.old[evaluation.asked]
    if before is None or not asks.any() or Keep().why_not(situation):
        return None

    def on_old_rows(parts: Sequence[Part]) -> Recall:
        return _among(evaluation, parts, rows=evaluation.old, queries=asks)

    everything = np.ones(int(asks.sum()), np.bool_)
    by_champion = on_old_rows(before)
    if not by_champion.queries:
        return None
    by_candidate = on_old_rows(parts_after(evaluation, Keep().plan(situation)))
    adapted = None
    if not Adapt().why_not(situation):
        mapped = on_old_rows(parts_after(evaluation, Adapt().plan(situation)))
        adapted = paired(by_champion, mapped, everything)
    return CrossTest(
        self_test=by_champion.at(1),
        cross_test=by_candidate.at(1),
        paired=paired(by_champion, by_candidate, everything),
        adapted=adapted,
    )


def fewer_queries(evaluation: EvaluationData) -> EvaluationData:
    """Return the same with at most CURVE_QUERIES queries: the same ones in any order of items."""
    by_content = np.lexsort(evaluation.candidate[evaluation.asked].T)
    return evaluation.asking(np.sort(evaluation.asked[by_content[evenly(len(by_content), CURVE_QUERIES)]]))


def partial_curves(evaluation: EvaluationData, situation: Situation) -> PartialCurves | None:
    """Return how far a share of the old rows gets, in each order; None where no partial backfill is possible.

    Args:
        evaluation: Of `select`, where the order is chosen.
        situation: The whole gallery and the candidate.
    """
    evaluation = fewer_queries(evaluation)
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
