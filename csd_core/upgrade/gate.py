"""The verdict on a candidate: a pure function of the check's report, the policy and an operator's decision.

`select` chooses how the candidate would be served, and the gate's queries judge it. Of the allowed ways that meet the
policy on `select` the cheapest is nominated. Then `gate` decides in this order:

1. The nominee is judged, with one half of the risk that the policy's confidence leaves. If it meets every condition, it
   is taken.
2. Otherwise a full backfill is judged (the costliest way where it is not allowed), with the other half. If it meets
   every condition, the way that did best on `select` is judged with the same half, then the best of those that cost
   less, and so on down to the nominee, which now has both halves. The first that fails ends this descent; the last that
   passed is taken.

So a candidate whose backfill is proven better is not lost by the choice of a cheaper way, and few rows are re-embedded.
Where the nominee is the full backfill, or no cheaper way passes on `select`, the backfill alone is judged, with all of
the risk.

The chance that a way is promoted which breaks a limit that must be proven is at most 1 - confidence, whatever is true
of the other ways. For `select` has other queries than `gate`, so nominee and descent are fixed before the gate's
queries are asked. A way that breaks a limit passes by luck with at most its share of the risk; its other conditions
only make that harder. In a fixed order in which each is judged only if the one before passed, the first that breaks a
limit ends all but for that chance, so those after it need no correction (Maurer, Hothorn and Lehmacher, 1995). The two
orders share the risk between them (Bonferroni), and the one that is through passes its half on (Holm, Scandinavian
Journal of Statistics 1979; as a graph: Bretz, Maurer, Brannath and Posch, Statistics in Medicine 2009).

A way that was not measured on `select` (reports of before have only partial backfills there) cannot be chosen on it: it
is judged with a share of its own before the backfill, and all shares are alike.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from csd_core.params.upgrade import Decision, Policy, Strategy
from csd_core.records.check import Alternative, CheckReport, by_cost
from csd_core.records.verdict import (
    NOT_CHOSEN,
    Condition,
    OnSelect,
    Promoted,
    Rejected,
    Way,
    decided_by_operator,
    left_out,
)
from csd_core.system.errors import CompatibilityError
from csd_core.upgrade.gate_rules import against_status_quo, of_first_model, of_upgrade, with_share

NOT_ALLOWED = "not in gate.allowed"

_Key = tuple[Strategy, float | None]
"""Tells a way to serve: its strategy, and the share of a partial backfill."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What the gate's queries say of a way, at some confidence."""

    confidence: float
    conditions: tuple[Condition, ...]

    @property
    def passed(self) -> bool:
        return all(condition.passed for condition in self.conditions)


def assess(report: CheckReport, policy: Policy) -> tuple[Way, ...]:
    """Return every way to serve, cheapest first, with its cost, what it reached on `select` and what on `gate`."""
    alternatives = by_cost(report.alternatives)
    on_select = _on_select(report, policy)
    allowed = _allowed(alternatives, policy)
    descent = _descent(allowed, on_select)
    judged = _judged(report, policy, allowed, descent, on_select)
    unreachable = out_of_reach(report, policy)

    def why_not(way: Alternative) -> str:
        """Return why a possible way was not judged."""
        selected = on_select.get(way.way)
        if way.strategy not in policy.allowed:
            return NOT_ALLOWED
        if way not in allowed:
            return "costs more than a full backfill"
        if selected and not selected.passed:
            return f"{NOT_CHOSEN}: {selected.why_not}"
        passed = [each for each in alternatives if each.way in judged and judged[each.way].passed]
        if passed and alternatives.index(passed[0]) < alternatives.index(way):
            return f"not needed: {passed[0].name} costs less and passes"
        if way in descent:
            return f"not reached: {next(each for each in descent if not judged[each.way].passed).name} fails"
        return "passed over: another way costs less and did no worse on select"

    ways = []
    for each in alternatives:
        outcome = judged.get(each.way)
        ways.append(
            Way(
                strategy=each.strategy,
                share=each.share,
                cost=each.cost if each.possible else None,
                on_select=on_select.get(each.way),
                confidence=outcome.confidence if outcome else None,
                passed=bool(outcome and outcome.passed),
                conditions=tuple(_marked(one, unreachable) for one in outcome.conditions) if outcome else (),
                why_not=None if outcome else each.why_not or why_not(each),
            )
        )
    return tuple(ways)


def _allowed(alternatives: Sequence[Alternative], policy: Policy) -> list[Alternative]:
    """Return the ways that may be taken; none that costs more than a full backfill, where that may be."""
    names = {"none", *policy.allowed}
    allowed = [each for each in alternatives if each.possible and each.strategy in names]
    ends = [place for place, each in enumerate(allowed, start=1) if each.strategy == "backfill"]
    return allowed[: ends[0]] if ends else allowed


def _on_select(report: CheckReport, policy: Policy) -> dict[_Key, OnSelect]:
    """Return what each way that was measured on `select` reached there; its gain need not be proven."""
    found: dict[_Key, OnSelect] = {}
    if report.rehearsal is None:
        return found
    for each in report.rehearsal.alternatives:
        if each.measured:
            conditions = against_status_quo(each, policy, status_quo=report.rehearsal.status_quo, rehearsed=True)
            why_not = next((condition.words for condition in conditions if not condition.passed), "")
            found[each.way] = OnSelect(
                recall=each.measured.overall.recall_at_1,
                against_status_quo=each.against_status_quo["overall"],
                passed=not why_not,
                why_not=why_not,
            )
    return found


def _descent(allowed: Sequence[Alternative], on_select: Mapping[_Key, OnSelect]) -> tuple[Alternative, ...]:
    """Return the ways from a full backfill down to the nominee, each cheaper than the one before it.

    After the backfill (the costliest where it is not allowed) comes the way that did best on `select` of those that
    pass there, by hits less lost queries; of equals the costlier, whose chance to pass on `gate` is better.
    """
    chosen = [each for each in allowed[:-1] if each.way in on_select and on_select[each.way].passed]
    found = list(allowed[-1:])
    best_first = sorted(chosen, key=lambda way: (on_select[way.way].merit, allowed.index(way)), reverse=True)
    for each in best_first:
        if allowed.index(each) < allowed.index(found[-1]):
            found.append(each)
    return tuple(found)


def _judged(
    report: CheckReport,
    policy: Policy,
    allowed: Sequence[Alternative],
    descent: Sequence[Alternative],
    on_select: Mapping[_Key, OnSelect],
) -> dict[_Key, _Outcome]:
    """Return the outcome of each way that the gate's queries judge, in the order that this module's docstring tells."""
    nominee = descent[-1] if len(descent) > 1 else None
    alone = [each for each in allowed[:-1] if each is nominee or each.way not in on_select]
    found: dict[_Key, _Outcome] = {}

    def passes(way: Alternative, *, shares: int = 1) -> bool:
        mine = with_share(policy, shares / (len(alone) + 1))
        met = of_first_model(way, mine) if way.strategy == "none" else of_upgrade(report, way, mine)
        found[way.way] = _Outcome(mine.confidence, tuple(met))
        return found[way.way].passed

    if any(passes(each) for each in alone):
        return found
    for each in descent:
        if not passes(each, shares=2 if each is nominee else 1):
            break
    return found


def out_of_reach(report: CheckReport, policy: Policy) -> frozenset[str]:
    """Names of the conditions that every measured way fails, a full backfill too, and that no more queries would turn.

    Ways count that the policy does not allow: the candidate itself cannot do it.
    """
    measured = [each for each in report.alternatives if each.measured and each.strategy != "none"]
    if not any(each.strategy == "backfill" for each in measured):
        return frozenset()
    lost = [
        {each.name for each in of_upgrade(report, way, policy) if not each.passed and not each.needs_queries}
        for way in measured
    ]
    return frozenset(set.intersection(*lost))


def _marked(condition: Condition, unreachable: frozenset[str]) -> Condition:
    if condition.name not in unreachable:
        return condition
    words = f"{condition.words}: out of reach even by backfill"
    return condition.model_copy(update={"out_of_reach": True, "words": words})


def judge(report: CheckReport, policy: Policy, decision: Decision = "auto") -> Promoted | Rejected:
    """Promote the candidate under a strategy, or reject it, and say why.

    Args:
        report: What promoting it would do.
        policy: What an upgrade must satisfy.
        decision: `auto`, or an operator's choice, which overrules the conditions but not what is possible.

    Raises:
        CompatibilityError: if the operator chose what is not possible for this candidate.
    """
    ways = assess(report, policy)
    best = next((each for each in ways if each.passed), None)
    reasons = tuple(_reasons(ways, best))
    chosen: _Key | None
    if decision == "auto":
        chosen = (best.strategy, best.share) if best else None
    else:
        chosen = None if decision == "reject" else _chosen(report, ways, decision)
        reasons = (decided_by_operator(decision), *(f"the gate: {reason}" for reason in reasons))
    if chosen is not None:
        return Promoted(
            task=report.task,
            candidate=report.candidate,
            champion=report.champion,
            decision=decision,
            ways=ways,
            reasons=reasons,
            strategy=chosen[0],
            share=chosen[1],
        )
    return Rejected(
        task=report.task,
        candidate=report.candidate,
        champion=report.champion,
        decision=decision,
        ways=ways,
        reasons=reasons,
        inconclusive=decision == "auto" and any(_undecided(each) for each in ways),
    )


def _reasons(ways: Sequence[Way], best: Way | None) -> Iterator[str]:
    """Yield why the best way passes and each cheaper one does not; or what those that were judged failed."""
    if best:
        yield from (f"{best.name}: {condition.words}" for condition in best.conditions)
    before = ways[: ways.index(best)] if best else ways
    for way in before:
        yield from (f"{way.name}: {condition.words}" for condition in way.failed)
    if best or not any(way.judged for way in ways):
        yield from left_out(before)


def _undecided(way: Way) -> bool:
    """Return whether more queries could turn every condition that failed."""
    return bool(way.failed) and all(condition.needs_queries for condition in way.failed)


def _chosen(report: CheckReport, ways: Sequence[Way], decision: Decision) -> _Key:
    """What an operator chose: a partial backfill that passed, was judged, or passed on `select`, else the largest."""
    mine = [way for way in ways if way.strategy == decision]
    if not mine:
        names = ", ".join(dict.fromkeys(way.strategy for way in ways))
        raise CompatibilityError(
            f"params.yaml: decisions.{report.task}: {decision}: the check offers {names}; choose one, auto or reject"
        )
    possible = [way for way in mine if way.cost]
    if not possible:
        raise CompatibilityError(
            f"params.yaml: decisions.{report.task}: {decision}: not possible, {mine[-1].why_not}; "
            "choose another strategy or reject"
        )
    ranked = (
        *(way for way in possible if way.passed),
        *(way for way in possible if way.judged),
        *(way for way in possible if way.on_select and way.on_select.passed),
        possible[-1],
    )
    return ranked[0].strategy, ranked[0].share
