"""The check's report: every way to serve a candidate, measured by the gate's queries; choices rehearsed on `select`."""

from collections.abc import Callable
from dataclasses import replace
from typing import get_args

import numpy as np

from csd_core.params.upgrade import AdapterMethod, Order
from csd_core.records.check import CheckReport, Rehearsal, ServingPoint
from csd_core.records.stages import Digest
from csd_core.upgrade.compatibility import (
    compare,
    cross_test,
    fewer_queries,
    partial_curves,
    recall_under,
    scores_on,
    today,
)
from csd_core.upgrade.evaluation_data import EvaluationData
from csd_core.upgrade.plans import UpgradePlan
from csd_core.upgrade.strategies import Adapt, Keep, Merge, Situation, offered

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
            and its share by the gate.
        situation: The whole gallery and the candidate.
        champion: The champion's digest.
        pending: Tasks whose data the candidate also trained on.
        best_own_gallery: Task -> best Recall@1 on its own gallery ever served.
    """
    curves = partial_curves(select, situation) if champion and len(select.asked) else None
    scored = scores_on(select, situation)
    strategies = offered(situation.settings.partial, curves.order if curves else None)
    status_quo, alternatives = compare(gate, situation, strategies, scored)
    rehearsal = None
    if curves:
        partial = [each for each in strategies if each.share is not None]
        rehearsed_quo, rehearsed = compare(select, situation, partial, scored)
        rehearsal = Rehearsal(status_quo=rehearsed_quo, alternatives=rehearsed) if rehearsed_quo else None
    return CheckReport(
        task=task,
        split="gate",
        candidate=situation.candidate,
        champion=champion,
        pending=pending,
        status_quo=status_quo,
        cross_test=cross_test(gate, situation),
        alternatives=alternatives,
        rehearsal=rehearsal,
        partial=curves,
        adapter_methods=_adapter_methods(gate, situation),
        during_backfill=_during_backfill(gate, situation, scored, curves.order if curves else "random"),
        best_own_gallery=best_own_gallery,
    )


def _adapter_methods(gate: EvaluationData, situation: Situation) -> dict[str, float]:
    """Method -> Recall@1 of all queries if every adapter were of that method, for methods that map every row."""
    if today(gate) is None or Adapt().why_not(situation):
        return {}
    plan, gate = Adapt().plan(situation), fewer_queries(gate)
    return {
        method: recall_under(gate, replace(plan, adapters=adapters))
        for method in get_args(AdapterMethod)
        if len(adapters := situation.adapters.by_method(method)) == len(plan.adapters)
    }


def _during_backfill(
    gate: EvaluationData, situation: Situation, scored: Callable[[UpgradePlan], UpgradePlan], order: Order
) -> tuple[ServingPoint, ...]:
    """What users see while every old row is re-embedded, by the scores that two models start with."""
    if today(gate) is None or not gate.old.any() or not len(gate.asked):
        return ()
    if len(np.unique(gate.labels)) == len(gate.labels):
        return ()  # no query has a right row, so there is no recall to show
    rows = situation.order(order)
    two = situation.settings.model_copy(update={"max_query_models": max(2, situation.settings.max_query_models)})
    merged = scored(Merge().plan(replace(situation, settings=two)))
    naive = None if Keep().why_not(situation) else Keep().plan(situation)
    gate = fewer_queries(gate)
    points = []
    for share in SHARES:
        done = np.zeros(len(rows), np.bool_)
        done[rows[: round(share * len(rows))]] = True
        points.append(
            ServingPoint(
                share=share,
                naive=recall_under(gate, replace(naive, embed=done)) if naive else None,
                merged=recall_under(gate, replace(merged, embed=merged.embed | done)),
            )
        )
    return tuple(points)
