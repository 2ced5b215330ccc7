"""Which other policy would admit a rejected candidate: what `gate.allowed` leaves out, and the limits that would do."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pydantic import ValidationError

from csd_core.params.upgrade import Policy
from csd_core.records.check import Alternative, CheckReport
from csd_core.records.verdict import Condition, Promoted
from csd_core.upgrade.gate import judge
from csd_core.upgrade.gate_rules import of_first_model, of_upgrade, with_share

STEP = 0.001
"""Limits are given to a tenth of a point."""

SHARES = (1.0, 0.5)
"""Of the risk, at which a way may come to be judged (csd_core.upgrade.gate)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """A policy that would admit the candidate.

    Attributes:
        policy: It.
        changes: Name of each limit -> the value that differs.
        way: How the candidate would be served then.
        distance: Sum over the limits of how far each moves, as shares.
    """

    policy: Policy
    changes: dict[str, float | bool]
    way: Alternative
    distance: float


def other_ways(report: CheckReport, policy: Policy) -> Alternative | None:
    """Return the way to serve that passes as soon as `gate.allowed` has all ways; None for none."""
    found = judge(report, policy.model_copy(update={"allowed": _every_strategy(report)}))
    return _way(report, found) if isinstance(found, Promoted) and found.strategy not in policy.allowed else None


def admission(report: CheckReport, policy: Policy) -> Admission | None:
    """Return the policy with the fewest and smallest changes of limits that admits the candidate; None for none.

    Each is tried by the gate itself, so what is returned admits. Only allowed ways count, unless none is possible.
    """
    allowed = [each for each in report.alternatives if each.measured and each.strategy in ("none", *policy.allowed)]
    wide = policy if allowed else policy.model_copy(update={"allowed": _every_strategy(report)})
    ways = allowed or [each for each in report.alternatives if each.measured]
    tried = [each for way in ways for share in SHARES for each in _relaxed(report, way, wide, share)]
    for limits, distance in sorted(tried, key=lambda each: (len(each[0]), each[1])):
        try:
            relaxed = Policy.model_validate(wide.model_dump() | limits)
        except ValidationError:
            continue
        found = judge(report, relaxed)
        if isinstance(found, Promoted):
            return Admission(policy=relaxed, changes=limits, way=_way(report, found), distance=distance)
    return None


def _every_strategy(report: CheckReport) -> list[str]:
    return [each for each in dict.fromkeys(way.strategy for way in report.alternatives) if each != "none"]


def _way(report: CheckReport, found: Promoted) -> Alternative:
    return next(each for each in report.alternatives if each.way == (found.strategy, found.share))


def _relaxed(
    report: CheckReport, way: Alternative, policy: Policy, share: float
) -> Iterator[tuple[dict[str, float | bool], float]]:
    """Yield the limits that one way to serve needs, and how far they lie from those of the policy."""
    mine = with_share(policy, share)
    conditions = of_first_model(way, mine) if way.strategy == "none" else of_upgrade(report, way, mine)
    limits = _needed([each for each in conditions if not each.passed])
    if limits:
        yield limits, sum(abs(float(value) - float(getattr(policy, name))) for name, value in limits.items())


def _needed(failed: Iterable[Condition]) -> dict[str, float | bool]:
    """Name of each limit -> the value, to a tenth of a point, with which none of some conditions fails."""
    limits: dict[str, float | bool] = {}
    for each in failed:
        name = each.name.partition(":")[0]
        reached = each.figure if each.bound is None else each.bound
        if name == "require_ecc":
            limits[name] = False
        elif name == "min_gain":  # it must be exceeded
            limits[name] = _down(reached - STEP / 2)
        elif name.startswith("min_"):
            limits[name] = _down(reached)
        else:
            limits[name] = max(float(limits.get(name, 0.0)), -_down(reached))
    return limits


def _down(value: float) -> float:
    """Return the next value below on the grid of STEP; no minus zero."""
    return round(math.floor(value / STEP + 1e-6) * STEP, 6) + 0.0
