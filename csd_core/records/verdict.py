"""What was decided about a candidate, and the state after it: verdict.json, ledger.json, pending.json."""

from typing import Annotated, Literal

from pydantic import Field

from csd_core.params.upgrade import Decision, Strategy
from csd_core.records.check import strategy_name
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


class Judged(Record):
    """A strategy with the outcome of every condition."""

    strategy: Strategy
    share: float | None
    """Of a partial backfill: the smallest that passes on `select`."""
    passed: bool
    conditions: tuple[Condition, ...]
    why_not: str | None

    @property
    def name(self) -> str:
        """The strategy, with its share."""
        return strategy_name(self.strategy, self.share)


class _Verdict(Record):
    task: str
    candidate: Digest
    champion: Digest | None
    """The champion before."""
    decision: Decision
    """`auto`, or what an operator chose."""
    judged: tuple[Judged, ...]
    reasons: tuple[str, ...]
    """In words."""


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
        names = (each.name for judged in self.judged for each in judged.conditions if each.out_of_reach)
        return tuple(dict.fromkeys(names))

    @property
    def outlook(self) -> str:
        """What could turn it, in words; empty where that depends on the strategy."""
        if self.inconclusive:
            return "more queries could turn it"
        return "out of reach even by backfill" if self.out_of_reach else ""

    @property
    def acceptable(self) -> Strategy | None:
        """The strategy under which an operator can accept it: the most thorough one that was measured."""
        return next((each.strategy for each in reversed(self.judged) if each.conditions), None)

    @property
    def remedy(self) -> str:
        """What may make the next candidate pass."""
        return "Add images, for more queries may decide it" if self.inconclusive else "Train longer"

    @property
    def next_step(self) -> str:
        """What a person can do about it, as a sentence."""
        if self.decision == "reject":
            return f"To leave it to the gate again: `decisions: {{{self.task}: auto}}` in params.yaml."
        if self.acceptable is None:
            return f"{self.remedy}."
        return f"{self.remedy}, or accept it: `decisions: {{{self.task}: {self.acceptable}}}` in params.yaml."

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


class Pending(Record):
    """Tasks whose candidate was rejected since the last promotion; their data waits for the next stage."""

    tasks: tuple[str, ...]
