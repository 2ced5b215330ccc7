"""The check's report: every way to serve a candidate, measured on the gate's items; choices rehearsed on `select`."""

from dataclasses import replace
from typing import get_args

import numpy as np

from csd_core.params.upgrade import AdapterMethod, Order
from csd_core.records.check import CheckReport, Rehearsal, ServingPoint
from csd_core.records.stages import Digest
from csd_core.upgrade.compatibility import compare, cross_test, partial_curves, recall_under
from csd_core.upgrade.evaluation_data import EvaluationData
from csd_core.upgrade.mixed_gallery import Calibration, simulate
from csd_core.upgrade.strategies import Adapt, Situation, offered

SHARES = tuple(step / 10 for step in range(11))
"""Of a backfill, at which the simulation looks."""


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
        gate: The items that judge.
        select: The items on which the order of a partial backfill is chosen here, and its share by the gate.
        situation: The whole gallery and the candidate.
        champion: The champion's digest.
        pending: Tasks whose data the candidate also trained on.
        best_own_gallery: Task -> best Recall@1 on its own gallery ever served.
    """
    curves = partial_curves(select, situation) if champion else None
    strategies = offered(situation.settings.partial, curves.order if curves else None)
    status_quo, alternatives = compare(gate, situation, strategies)
    rehearsal = None
    if curves:
        rehearsed_quo, rehearsed = compare(select, situation, [each for each in strategies if each.share is not None])
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
        during_backfill=_during_backfill(gate, select, situation, curves.order if curves else "random"),
        best_own_gallery=best_own_gallery,
    )


def _adapter_methods(gate: EvaluationData, situation: Situation) -> dict[str, float]:
    """Method -> Recall@1 of all queries if every adapter were of that method, for methods that map every row."""
    if gate.champion is None or Adapt().why_not(situation):
        return {}
    plan = Adapt().plan(situation)
    return {
        method: recall_under(gate, replace(plan, adapters=adapters))
        for method in get_args(AdapterMethod)
        if len(adapters := situation.adapters.by_method(method)) == len(plan.adapters)
    }


def _during_backfill(
    gate: EvaluationData, select: EvaluationData, situation: Situation, order: Order
) -> tuple[ServingPoint, ...]:
    """What users would see while every old row is re-embedded; the scales of both spaces are learned on `select`."""
    before, served = select.status_quo_rows(), gate.status_quo_rows()
    if before is None or served is None or gate.champion is None or select.champion is None:
        return ()
    if not gate.old.any() or not select.old.any() or len(np.unique(select.labels)) < 2:  # noqa: PLR2004 - to compare
        return ()
    if len(np.unique(gate.labels)) == len(gate.labels):
        return ()  # no query has a right row, so there is no recall to show
    rank = np.empty(len(situation.gallery), np.intp)
    rank[situation.order(order)] = np.arange(len(rank))
    return simulate(
        queries_old=gate.champion,
        queries_new=gate.candidate,
        rows_old=served,
        rows_new=gate.candidate,
        labels=gate.labels,
        old=gate.old,
        order=np.flatnonzero(gate.old)[np.argsort(rank[gate.positions])],
        shares=SHARES,
        calibration_old=Calibration.fit(queries=select.champion, rows=before, labels=select.labels),
        calibration_new=Calibration.fit(queries=select.candidate, rows=select.candidate, labels=select.labels),
    )
