"""What was decided about a candidate, and about those before it: verdict.json, ledger.json."""

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import AliasChoices, Field

from csd_core.params.upgrade import Decision, Strategy
from csd_core.records.check import Alternative, Cost, Paired, strategy_name
from csd_core.records.stages import Digest, Record


class Condition(Record):
    """One condition of the policy on one strategy."""

    name: str
    figure: float
    """The point estimate."""
    bound: float | None
    """The one-sided bound that is compared, where there is one."""
    limit: float
    passed: bool
    words: str
    """The condition as a sentence, with figures."""
    needs_queries: int | None
    """About how many queries would decide it, where it is the interval and not the estimate that fails."""
    out_of_reach: bool = False
    """No way to serve the candidate meets it, a full backfill neither, and more queries would not change that."""


NOT_CHOSEN = "not chosen on select"
"""Why a way to serve that fails on `select` was not judged, in short."""


class OnSelect(Record):
    """What a way to serve reached on `select`, where one is chosen."""

    recall: float | None
    """Recall@1 of all `select` queries; None where no query counts."""
    against_status_quo: Paired
    """All `select` queries."""
    passed: bool
    why_not: str
    """The first condition that it fails there; empty where it fails none."""

    @property
    def merit(self) -> int:
        """Hits less queries that hit today and would miss, beyond today's hits: a lost query counts twice."""
        return self.against_status_quo.gained - 2 * self.against_status_quo.lost


class Way(Record):
    """A way to serve: what it costs, what it reached on `select`, and what the gate made of it."""

    strategy: Strategy
    share: float | None
    """Of the old rows that a partial backfill re-embeds."""
    cost: Cost | None = None
    """None where it is impossible, and in a verdict of before."""
    on_select: OnSelect | None = None
    """None where it was not measured there."""
    confidence: float | None = None
    """At which it was judged on `gate`; None where it was not, and in a verdict of before."""
    passed: bool
    conditions: tuple[Condition, ...]
    """On `gate`; empty where it was not judged."""
    why_not: str | None
    """Why it was not judged."""

    @property
    def name(self) -> str:
        """The strategy, with its share."""
        return strategy_name(self.strategy, self.share)

    @property
    def judged(self) -> bool:
        """Whether the gate's queries decided about it."""
        return self.why_not is None

    @property
    def why_not_in_short(self) -> str:
        """Why it was not judged, without figures."""
        why_not = self.why_not or ""
        return NOT_CHOSEN if why_not.startswith(NOT_CHOSEN) else why_not

    @property
    def failed(self) -> tuple[Condition, ...]:
        """The conditions that it fails on `gate`."""
        return tuple(condition for condition in self.conditions if not condition.passed)


def left_out(ways: Iterable[Way]) -> tuple[str, ...]:
    """Return why some ways were not judged, those with the same reason together."""
    names: dict[str, list[str]] = {}
    for way in ways:
        if not way.judged:
            names.setdefault(way.why_not_in_short, []).append(way.name)
    return tuple(f"{', '.join(each)}: {why_not}" for why_not, each in names.items())


class _Verdict(Record):
    task: str
    candidate: Digest
    champion: Digest | None
    """The champion before."""
    decision: Decision
    """`auto`, or what an operator chose."""
    ways: Annotated[tuple[Way, ...], Field(validation_alias=AliasChoices("ways", "judged"))]
    """Every way to serve, cheapest first; `judged` in a verdict of before, which had some of them."""
    reasons: tuple[str, ...]
    """In words."""

    @property
    def judged(self) -> tuple[Way, ...]:
        """Those that the gate judged, cheapest first."""
        return tuple(way for way in self.ways if way.judged)


class Promoted(_Verdict):
    """The candidate becomes the champion."""

    outcome: Literal["promoted"] = "promoted"
    strategy: Strategy
    share: float | None
    """Of the old rows that a partial backfill re-embeds."""

    @property
    def name(self) -> str:
        """The strategy, with its share."""
        return strategy_name(self.strategy, self.share)


class Rejected(_Verdict):
    """The champion stays."""

    outcome: Literal["rejected"] = "rejected"
    inconclusive: bool
    """More queries could turn it."""

    @property
    def out_of_reach(self) -> tuple[str, ...]:
        """Names of the conditions that even a full backfill fails."""
        names = (each.name for way in self.ways for each in way.conditions if each.out_of_reach)
        return tuple(dict.fromkeys(names))

    @property
    def outlook(self) -> str:
        """What could turn it, in words; empty where that depends on the strategy."""
        if self.inconclusive:
            return "more queries could turn it"
        return "out of reach even by backfill" if self.out_of_reach else ""

    @property
    def acceptable(self) -> Strategy | None:
        """The strategy under which an operator can accept it: the costliest that was judged."""
        return self.judged[-1].strategy if self.judged else None

    @property
    def next_step(self) -> str:
        """What a person can do about it, as a sentence."""
        if self.decision == "reject":
            return f"To leave it to the gate again: `decisions: {{{self.task}: auto}}` in params.yaml."
        listed = "`csd summary` lists what can be done"
        if self.acceptable is None:
            return f"{listed}."
        return f"{listed}; to accept it: `decisions: {{{self.task}: {self.acceptable}}}` in params.yaml."

    @property
    def message(self) -> str:
        """The rejection in one line: what was required, and the next step."""
        return f"{self.what}: {self.because} {self.next_step}"

    @property
    def what(self) -> str:
        """What was rejected, and whether that can still turn."""
        what = "First model rejected" if self.champion is None else "Rejected"
        return f"{what} ({self.outlook})" if self.outlook else what

    @property
    def because(self) -> str:
        """The reasons in one line."""
        return "; ".join(reason.removeprefix("first model: ") for reason in self.reasons) + "."


Verdict = Annotated[Promoted | Rejected, Field(discriminator="outcome")]


def way_of(verdict: Promoted | Rejected, alternative: Alternative) -> Way | None:
    """Return what a verdict says of a way that was measured; None in a verdict of before that leaves it out."""
    return next((way for way in verdict.ways if (way.strategy, way.share) == alternative.way), None)


def outcome_in_words(verdict: Promoted | Rejected) -> str:
    """Return what was decided, in a few words."""
    if isinstance(verdict, Promoted):
        return "promoted as first model" if verdict.strategy == "none" else f"promoted under {verdict.name}"
    return f"rejected; {verdict.outlook}" if verdict.outlook else "rejected"


def decided_by_operator(decision: Decision) -> str:
    """Return an operator's decision in words."""
    match decision:
        case "none":
            return "an operator accepted the first model"
        case "reject":
            return "an operator rejected it"
        case _:
            return f"an operator chose {decision}"


class VerdictFile(Record):
    """verdict.json."""

    verdict: Verdict


class LedgerEntry(Record):
    """What became of one task."""

    task: str
    candidate: Digest
    outcome: Literal["promoted", "rejected"]
    strategy: Strategy | None
    share: float | None
    """Of the old rows that a partial backfill re-embedded."""
    champion: Digest | None
    """Active after the task."""
    champion_task: str | None
    """Whose candidate that is."""
    check: Digest
    """sha256 of check.json."""
    gallery: Digest
    """Of the gallery after the task."""
    served: dict[str, float]
    """Task -> Recall@1 on its own gallery as served after the task, on gate queries."""


class Ledger(Record):
    """The fold so far, oldest first; the report and the ratchet read it."""

    entries: tuple[LedgerEntry, ...]

    @property
    def best_own_gallery(self) -> dict[str, float]:
        """Task -> best own-gallery Recall@1 ever served."""
        best: dict[str, float] = {}
        for entry in self.entries:
            for task, recall in entry.served.items():
                best[task] = max(recall, best.get(task, 0.0))
        return best
