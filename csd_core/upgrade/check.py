"""The check's report: every way to serve a candidate, measured by the gate's queries; choices rehearsed on `select`."""

from dataclasses import replace
from typing import get_args

import numpy as np

from csd_core.params.upgrade import AdapterMethod, Order
from csd_core.records.by_class import CloserLook
from csd_core.records.check import Alternative, CheckReport, Rehearsal, ServingPoint, most_found
from csd_core.records.stages import Digest
from csd_core.upgrade.by_class import Classes, by_class, closer_look, queries_by_class
from csd_core.upgrade.compatibility import (
    Comparison,
    Scored,
    compare,
    compare_queries,
    partial_curves,
    recalls_under,
    scores_on,
)
from csd_core.upgrade.evaluation_data import EvaluationData
from csd_core.upgrade.search.outcomes import with_fewer_queries
from csd_core.upgrade.situation import Situation
from csd_core.upgrade.strategies import Adapt, Keep, Merge, offered

SHARES = tuple(step / 10 for step in range(11))
"""Of a backfill, at which search is measured."""


def check(
    task: str,
    *,
    gate: EvaluationData,
    select: EvaluationData,
    situation: Situation,
    champion: Digest | None,
    pending: tuple[str, ...],
    best_own_gallery: dict[str, float],
) -> CheckReport:
    """Measure what promoting a candidate would do to search.

    Args:
        task: Whose candidate it is.
        gate: The items, of which those ask that judge.
        select: The same items, of which those ask on which scores and the order of a partial backfill are chosen here,
            and the way to serve by the gate.
        situation: The whole gallery and the candidate.
        champion: The champion's digest.
        pending: Tasks whose data the candidate also trained on.
        best_own_gallery: Task -> best Recall@1 on its own gallery ever served.
    """
    at_hand, most = len(gate.asked), situation.settings.max_queries
    if most:
        gate, select = (with_fewer_queries(each, most) for each in (gate, select))
    curves = partial_curves(select, situation) if champion and len(select.asked) else None
    scored = scores_on(select, situation)
    strategies = offered(situation.settings.partial, curves.order if curves else None)
    comparison, classes = compare_queries(gate, situation, strategies, scored), Classes.of(gate)
    rehearsal = None
    if champion and len(select.asked):
        rehearsed_quo, rehearsed = compare(select, situation, strategies, scored)
        rehearsal = Rehearsal(status_quo=rehearsed_quo, alternatives=rehearsed) if rehearsed_quo else None
    return CheckReport(
        task=task,
        split="gate",
        sampled_of=at_hand if len(gate.asked) < at_hand else None,
        candidate=situation.candidate,
        champion=champion,
        pending=pending,
        status_quo=comparison.status_quo,
        cross_test=comparison.cross_test,
        alternatives=tuple(_with_classes(each, classes, comparison) for each in comparison.alternatives),
        rehearsal=rehearsal,
        partial=curves,
        adapter_methods=_adapter_methods(gate, situation),
        during_backfill=_during_backfill(gate, situation, scored, curves.order if curves else "random"),
        best_own_gallery=best_own_gallery,
        queries_by_class=queries_by_class(classes, next(iter(comparison.served.values()))[1].possible),
        closer_look=_closer_look(gate, comparison),
    )


def _with_classes(alternative: Alternative, classes: Classes, comparison: Comparison) -> Alternative:
    """Return the same with its figures class by class."""
    if not alternative.measured:
        return alternative
    _, after = comparison.served[alternative.way]
    before = comparison.before[1] if comparison.before else None
    return alternative.model_copy(update={"by_class": by_class(classes, before=before, after=after)})


def _closer_look(gate: EvaluationData, comparison: Comparison) -> CloserLook | None:
    """Look at the queries one by one under the way that finds most; of equals the cheapest."""
    best = most_found(comparison.alternatives)
    if best is None:
        return None
    return closer_look(gate, best, before=comparison.before, after=comparison.served[best.way])


def _adapter_methods(gate: EvaluationData, situation: Situation) -> dict[str, float]:
    """Method -> Recall@1 of all queries if every adapter were of that method, for methods that map every row."""
    if gate.way_before() is None or Adapt().why_not(situation):
        return {}
    plan, gate = Adapt().plan(situation), with_fewer_queries(gate)
    return {  # one at a time, for each maps all rows, which are not kept
        method: recalls_under(replace(gate, mapped=dict(gate.mapped)), [replace(plan, adapters=adapters)])[0]
        for method in get_args(AdapterMethod)
        if len(adapters := situation.adapters.by_method(method)) == len(plan.adapters)
    }


def _during_backfill(
    gate: EvaluationData, situation: Situation, scored: Scored, order: Order
) -> tuple[ServingPoint, ...]:
    """Measure galleries of which a share of the old rows is re-embedded, by the scores that two models start with."""
    if gate.way_before() is None or not gate.old.any() or not len(gate.asked):
        return ()
    if len(np.unique(gate.labels)) == len(np.unique(gate.groups_of(np.arange(len(gate.labels))))):
        return ()  # no query has a right row, so there is no recall to show
    rows = situation.order(order)
    two = situation.settings.model_copy(update={"max_query_models": max(2, situation.settings.max_query_models)})
    (merged,) = scored([Merge().plan(replace(situation, settings=two))])
    naive = None if Keep().why_not(situation) else Keep().plan(situation)
    done = np.empty(len(rows), np.intp)
    done[rows] = np.arange(len(rows))
    plans = (
        replace(plan, embed=plan.embed | (done < round(share * len(rows))))
        for plan in (merged, naive)
        if plan
        for share in SHARES
    )
    found = recalls_under(with_fewer_queries(gate), plans)
    return tuple(
        ServingPoint(share=share, merged=found[number], naive=found[len(SHARES) + number] if naive else None)
        for number, share in enumerate(SHARES)
    )
