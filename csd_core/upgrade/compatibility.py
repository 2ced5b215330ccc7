"""What promoting a candidate would do to search, measured on the gallery that would be served.

N items that are served, N_old of which were in the gallery before; Q of them, of one split, are queries, the rows of a
query's own group left out.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from csd_core.params.upgrade import Strategy
from csd_core.records.check import (
    Alternative,
    CrossTest,
    Measurement,
    Paired,
    PartialCurve,
    PartialCurves,
    by_cost,
)
from csd_core.records.ranking import Identity, ScoreMap
from csd_core.retrieval.metrics import Bools, Part, Recall
from csd_core.upgrade.backfill.orders import area_under
from csd_core.upgrade.evaluation_data import EvaluationData
from csd_core.upgrade.plans import UpgradePlan
from csd_core.upgrade.scores import with_scores
from csd_core.upgrade.search.outcomes import Outcome, measure, search, with_fewer_queries
from csd_core.upgrade.search.ways import Way
from csd_core.upgrade.situation import Situation
from csd_core.upgrade.strategies import Adapt, Backfill, Keep, NoGallery, PartialBackfill, UpgradeStrategy

FLOAT_BYTES = 4
"""Of a component of a stored vector."""


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


Scored = Callable[[Sequence[UpgradePlan]], list[UpgradePlan]]
"""Gives plans their scores."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Comparison:
    """The status quo and every way to serve a candidate, with the outcome of each query.

    Attributes:
        status_quo: As it was measured; None for a first model.
        alternatives: Cheapest first.
        before: What serves today, with its outcome; None for a first model.
        served: The strategy and share of each way that is possible -> what would serve, with its outcome.
        cross_test: Both models' queries of old items on the stored rows; None where they cannot meet.
    """

    status_quo: Measurement | None
    alternatives: tuple[Alternative, ...]
    before: tuple[Way, Recall] | None
    served: Mapping[tuple[Strategy, float | None], tuple[Way, Recall]]
    cross_test: CrossTest | None


def compare(
    evaluation: EvaluationData, situation: Situation, strategies: Sequence[UpgradeStrategy], scored: Scored
) -> tuple[Measurement | None, tuple[Alternative, ...]]:
    """Return the figures of `compare_queries` alone: the status quo, and the alternatives, cheapest first."""
    comparison = compare_queries(evaluation, situation, strategies, scored)
    return comparison.status_quo, comparison.alternatives


def compare_queries(
    evaluation: EvaluationData, situation: Situation, strategies: Sequence[UpgradeStrategy], scored: Scored
) -> Comparison:
    """Measure the status quo and every way to serve the candidate.

    Args:
        evaluation: The measured items.
        situation: The whole gallery and the candidate.
        strategies: Ways to serve, cheapest first; ignored for a first model, which has only `none`.
        scored: Gives plans their scores.
    """
    before = evaluation.way_before()
    if before is None:
        first, plan = NoGallery(), NoGallery().plan(situation)
        way = evaluation.way_after(plan)
        (outcome,), _ = measure(evaluation, [way])
        return Comparison(
            status_quo=None,
            alternatives=(_alternative(first, plan, situation, outcome, {}, None),),
            before=None,
            served={(first.name, first.share): (way, outcome.recall)},
            cross_test=None,
        )
    possible = [strategy for strategy in strategies if not strategy.why_not(situation)]
    plans = dict(zip(possible, scored([strategy.plan(situation) for strategy in possible]), strict=True))
    plans.setdefault(Backfill(), Backfill().plan(situation))
    ways = {strategy: evaluation.way_after(plan) for strategy, plan in plans.items()}
    (quo, *outcomes), on_stored = measure(
        evaluation, [before, *ways.values()], stored=_ways_of_cross_test(evaluation, situation)
    )
    groups = _groups(evaluation)
    measured = dict(zip(plans, outcomes, strict=True))
    ideal = measured[Backfill()].recall
    alternatives = []
    for strategy in strategies:
        reason = strategy.why_not(situation)
        if reason:
            alternatives.append(_impossible(strategy, reason))
            continue
        outcome = measured[strategy]
        against = {name: paired(quo.recall, outcome.recall, chosen) for name, chosen in groups.items()}
        excess = kept(quo.recall, first=ideal, second=outcome.recall)
        alternatives.append(_alternative(strategy, plans[strategy], situation, outcome, against, excess))
    return Comparison(
        status_quo=quo.measurement,
        alternatives=by_cost(alternatives),
        before=(before, quo.recall),
        served={(each.name, each.share): (way, measured[each].recall) for each, way in ways.items()},
        cross_test=_cross_test(on_stored),
    )


def today(evaluation: EvaluationData) -> list[Part] | None:
    """Return what the queries search without an upgrade; None for a first model."""
    way = evaluation.way_before()
    return evaluation.parts(way) if way else None


def parts_after(evaluation: EvaluationData, plan: UpgradePlan) -> list[Part]:
    """Return what the queries search after an upgrade."""
    return evaluation.parts(evaluation.way_after(plan))


def scores_on(select: EvaluationData, situation: Situation) -> Scored:
    """Return what gives plans their scores, fitted and chosen on `select`; without such items cosines are scores.

    Args:
        select: The items, of which those of `select` ask.
        situation: The whole gallery and the candidate.
    """
    asking = with_fewer_queries(select)
    before = asking.way_before()
    if before is None:
        return list
    outcome = search(asking, [before])[0] if len(asking.asked) else None
    known: dict[Hashable, UpgradePlan] = {}  # a plan is measured on `select` and on `gate`

    def way_of(plan: UpgradePlan) -> Hashable:
        return plan.strategy, plan.share, frozenset(plan.query_models.items())

    def scored(plans: Sequence[UpgradePlan]) -> list[UpgradePlan]:
        new = {way: plan for plan in plans if (way := way_of(plan)) not in known}
        known.update(zip(new, with_scores(list(new.values()), asking, outcome, situation.gallery), strict=True))
        return [known[way_of(plan)] for plan in plans]

    return scored


def _alternative(
    strategy: UpgradeStrategy,
    plan: UpgradePlan,
    situation: Situation,
    outcome: Outcome,
    against: dict[str, Paired],
    excess: Paired | None,
) -> Alternative:
    # one search for each query model and score map; rows that no score names are the candidate's, by cosine
    searches: set[tuple[str, ScoreMap]] = {(group.query_model, group.score) for group in plan.scoring}
    if not any((group.embedded_by, group.adapters) == (plan.model, "") for group in plan.scoring):
        searches.add((plan.model, Identity()))
    return Alternative(
        strategy=strategy.name,
        share=strategy.share,
        possible=True,
        why_not=None,
        rows_embedded=int(plan.embed.sum()),
        rows_mapped=int(plan.mapped(situation.gallery).sum()),
        query_models=len({plan.model, *(group.query_model for group in plan.scoring)}),
        searches=len(searches),
        row_bytes=FLOAT_BYTES * max([situation.dimension, *(group.dimension for group in plan.scoring)]),
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


def flips_under(evaluation: EvaluationData, plan: UpgradePlan) -> Paired:
    """Compare the queries without an upgrade and after it.

    Args:
        evaluation: Of a candidate that has a predecessor.
        plan: The upgrade.
    """
    ways = [way for way in (evaluation.way_before(), evaluation.way_after(plan)) if way]
    first, second = search(evaluation, ways)
    return paired(first, second, np.ones(len(evaluation.asked), np.bool_))


def recalls_under(evaluation: EvaluationData, plans: Iterable[UpgradePlan]) -> list[float]:
    """Recall@1 of all the candidate's queries over the rows of each plan."""
    return [found.at(1) for found in search(evaluation, map(evaluation.way_after, plans))]


def _ways_of_cross_test(evaluation: EvaluationData, situation: Situation) -> list[Way]:
    """Return what is served today, under `keep` and, if adapters can, under `adapt`, by cosine; none without `keep`."""
    before = evaluation.way_before()
    if before is None or not evaluation.old[evaluation.asked].any() or Keep().why_not(situation):
        return []
    plans = [strategy.plan(situation) for strategy in (Keep(), Adapt()) if not strategy.why_not(situation)]
    return [before, *map(evaluation.way_after, plans)]


def _cross_test(found: Sequence[Recall]) -> CrossTest | None:
    """Return the test from what the queries of old items find on the stored rows in those ways."""
    if not found or not found[0].queries:
        return None
    by_champion, by_candidate, *mapped = found
    everything = np.ones(len(by_champion.rank), np.bool_)
    return CrossTest(
        self_test=by_champion.at(1),
        cross_test=by_candidate.at(1),
        paired=paired(by_champion, by_candidate, everything),
        adapted=paired(by_champion, mapped[0], everything) if mapped else None,
    )


def partial_curves(evaluation: EvaluationData, situation: Situation) -> PartialCurves | None:
    """Return how far a share of the old rows gets, in each order; None where no partial backfill is possible.

    Args:
        evaluation: Of `select`, where the order is chosen.
        situation: The whole gallery and the candidate.
    """
    settings = situation.settings.partial
    first = PartialBackfill(share=0.0, order=settings.orders[0], rest=settings.rest)
    if not settings.shares or not evaluation.old.any() or first.why_not(situation):
        return None
    shares = (0.0, *settings.shares, 1.0)
    points = [replace(first, share=share) for share in (0.0, 1.0)]  # the same in every order
    points += [replace(first, share=share, order=order) for order in settings.orders for share in settings.shares]
    low, high, *between = recalls_under(with_fewer_queries(evaluation), (each.plan(situation) for each in points))
    curves = []
    for number, order in enumerate(settings.orders):
        begin = number * len(settings.shares)
        heights = (low, *between[begin : begin + len(settings.shares)], high)
        curves.append(PartialCurve(order=order, shares=shares, recalls=heights, area=area_under(shares, heights)))
    best = max(curves, key=lambda curve: curve.area)
    return PartialCurves(order=best.order, rest=settings.rest, curves=tuple(curves))
