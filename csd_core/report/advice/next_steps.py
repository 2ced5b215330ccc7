"""What a person can do about a rejected candidate: two to five steps, the most promising first."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from csd_core.params.upgrade import FIRST_MODEL, Policy, Strategy
from csd_core.records.by_class import ClassRecall
from csd_core.records.check import Alternative, CheckReport, most_found
from csd_core.records.verdict import Condition, Rejected, Way
from csd_core.report.advice import training as trained
from csd_core.report.advice.limits import Admission, admission, other_ways
from csd_core.report.advice.training import Training
from csd_core.system.words import count, listed, quoted

Kind = Literal["leave it to the gate", "allow", "images", "train", "limit", "accept"]

Place = Literal["project", "branch", "review", "alone"]
"""Where a person decides: in params.yaml of a project, or of a retraining's branch, in the form of a review, or with
two models alone."""

APPROVAL = "approve/approve"
"""The deployment with which a person decides a review: its flow and its name."""

NAMED = 3
"""Classes that a step names."""

NEAR = 0.02
"""Limits that must move by two points in all or less are near."""

LOW = 0.05
"""A class is far below the others where its Recall@1 is lower by five points than that of all queries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing to do.

    Attributes:
        kind: What it changes.
        promise: How likely it is to help: steps are listed from 5, which is known to help, to 0, which overrules.
        words: Sentences with the figures and the setting or command.
    """

    kind: Kind
    promise: int
    words: str


def closest(verdict: Rejected) -> Way | None:
    """Return the way to serve that fails the fewest conditions, of equals the cheapest; None where none was judged."""
    return min(verdict.judged, key=lambda way: len(way.failed), default=None)


def next_steps(
    report: CheckReport,
    verdict: Rejected,
    policy: Policy,
    *,
    training: Training | None,
    gate_share: float | None,
    place: Place,
) -> tuple[Step, ...]:
    """Return the steps, the most promising first; the last one overrules the gate, or tries other limits.

    Args:
        report: What the check found.
        verdict: What the gate made of it.
        policy: By which it did.
        training: How the candidate was trained; None where that is not known.
        gate_share: Share of a task's images that become gate queries; None where that is not known.
        place: Where the person decides.
    """
    steps = [_accept(report, verdict, place)]
    if verdict.decision == "reject":
        words = f"Leave it to the gate again, for an operator rejected it: `decisions: {{{verdict.task}: auto}}`."
        steps.append(Step(kind="leave it to the gate", promise=5, words=words))
    allowed = other_ways(report, policy)
    if allowed:
        steps.append(_allow(allowed, policy))
    if training:
        steps += _train(training)
    steps.append(_images(report, verdict, gate_share))
    admitting = None if allowed or verdict.decision == "reject" else admission(report, policy)
    if admitting:
        steps.append(_limit(admitting, report, policy, place))
    return tuple(sorted(steps, key=lambda step: -step.promise))


def _accept(report: CheckReport, verdict: Rejected, place: Place) -> Step:
    possible = [each.strategy for each in report.alternatives if each.possible]
    strategy: Strategy = verdict.acceptable or possible[-1]
    decision = f"write `decisions: {{{verdict.task}: {strategy}}}` into params.yaml and run `csd run`"
    if place == "project":
        words = f"Take it anyway: {decision}."
    elif place == "branch":
        words = (
            f"Take it anyway: merge this retraining's branch (`git merge`, then `dvc checkout`), {decision} and "
            "`csd publish`."
        )
    elif place == "review":
        choice = FIRST_MODEL if strategy == "none" else strategy
        settings = f'{{"choice": "{choice}", "by": "YOUR NAME", "reason": "WHY"}}'
        words = (
            f"Take it anyway: choose {choice} in the form, or run "
            f"`prefect deployment run {APPROVAL} --param 'settings={settings}'`."
        )
    else:
        words = (
            "Try other limits without measuring again: add `--out check.json`, then "
            "`csd gate replay check.json --policy policy.yaml`; `csd upgrade policy` prints a policy to start with."
        )
    return Step(kind="accept", promise=0, words=words)


def _allow(way: Alternative, policy: Policy) -> Step:
    names = ", ".join([*policy.allowed, way.strategy])
    words = (
        f"Allow {way.strategy}: under {way.name} the candidate meets every condition. "
        f"Set `gate.allowed: [{names}]`; it costs {way.cost.words}."
    )
    return Step(kind="allow", promise=5, words=words)


def _train(training: Training) -> Iterator[Step]:
    """Yield longer training where the curve asks for it, else what the training's first warning asks for."""
    if training.wants_more:
        yield Step(kind="train", promise=3, words=f"Train longer. {training.longer}")
        return
    for words in trained.warnings_of(training):
        yield Step(kind="train", promise=3, words=f"Train otherwise. {words}")
        return


def _images(report: CheckReport, verdict: Rejected, gate_share: float | None) -> Step:
    """Return which images would help: more of the weakest classes, or more queries where the gate could not decide."""
    way = closest(verdict)
    wanted = _queries_wanted(way) if way else None
    best = most_found(report.alternatives)
    asked = best.measured.overall if best and best.measured else None
    words, promise = "Add images.", 1
    if not asked or not asked.queries:
        return Step(
            kind="images",
            promise=4,
            words=f"{words} No gate query has a second image of its class, so nothing could be measured.",
        )
    if wanted:
        promise = 4
        more = wanted - asked.queries
        needed = f", so about {round(more / gate_share):,} more images" if gate_share and more > 0 else ""
        words += f" About {wanted:,} gate queries would decide it, {asked.queries:,} asked{needed}."
    classes = _worst(best)
    low = [each for each in classes if each.recall < asked.at[1] - LOW]
    if low:
        promise = max(promise, 2)
        words += (
            f" Of {asked.queries:,} queries {100 * asked.at[1]:.1f} % find their class first, least so {_classes(low)}."
        )
    elif report.queries_by_class and report.queries_by_class.fewest:
        fewest = [f"{quoted(each.name)} ({each.queries:,})" for each in report.queries_by_class.fewest[:NAMED]]
        words += f" The fewest gate queries are of {listed(fewest)}."
    elif not wanted:
        words += f" The gate asked {count(asked.queries, 'query', 'queries')}; more of them prove smaller changes."
    return Step(kind="images", promise=promise, words=words)


def _queries_wanted(way: Way) -> int | None:
    """About how many queries would turn every condition that a way fails; None where one cannot be turned so."""
    needs = [each.needs_queries for each in way.failed]
    return max(filter(None, needs)) if needs and all(needs) else None


def _limit(found: Admission, report: CheckReport, policy: Policy, place: Place) -> Step:
    """Return the limits that would admit the candidate, first of all where no model could meet those of today."""
    settings = [
        f"`gate.{name}: {_value(value)}` (now {_value(getattr(policy, name))})" for name, value in found.changes.items()
    ]
    where = "" if place != "alone" else " in a policy"
    words = (
        f"Accept a lower bar: {_all_of(settings)}{where} would promote it{_under(found.way)}. {_let_through(found.way)}"
    )
    quo = report.status_quo.overall.recall_at_1 if report.status_quo else None
    if quo is not None and quo + policy.min_gain >= 1:
        gain, today = f"{100 * policy.min_gain:.1f} points", f"{100 * quo:.1f} %"
        why = f"No model can gain more than {gain} where search finds {today} today."
        return Step(kind="limit", promise=4, words=f"{why} {words}")
    return Step(kind="limit", promise=3 if found.distance <= NEAR else 1, words=words)


def _under(way: Alternative) -> str:
    return " as first model" if way.strategy == "none" else f" under {way.name}"


def _all_of(settings: Sequence[str]) -> str:
    return " and ".join([", ".join(settings[:-1]), settings[-1]] if len(settings) > 1 else settings)


def _value(value: float | bool) -> str:  # noqa: FBT001 - a limit is a number or a switch
    return str(value).lower() if isinstance(value, bool) else f"{value:g}"


def _let_through(way: Alternative) -> str:
    """Return what a way to serve does to queries, and to which classes."""
    classes = _worst(way)
    pairs = way.against_status_quo.get("overall")
    if pairs is None:
        overall = way.measured.overall if way.measured else None
        queries, recall = (overall.queries, overall.at[1]) if overall else (0, 0.0)
        missed = queries - round(queries * recall)
        least = f", most often {_classes(classes)}" if classes and missed else ""
        return f"Then {missed:,} of {count(queries, 'query', 'queries')} miss their class{least}."
    fallen = sorted((each for each in classes if each.fallen > 0), key=lambda each: -each.fallen)[:NAMED]
    names = [f"{quoted(each.name)} ({each.before} hits today, {each.after} then)" for each in fallen]
    most = f"; most is lost in {listed(names)}" if names else ""
    return (
        f"Then {pairs.lost:,} of {pairs.queries:,} queries that hit today miss, "
        f"and {pairs.gained:,} that miss today hit{most}."
    )


def _worst(way: Alternative | None) -> tuple[ClassRecall, ...]:
    """Return the classes with the lowest Recall@1 that are not found every time."""
    listed_classes = way.by_class.worst if way and way.by_class else ()
    return tuple(each for each in listed_classes if each.after < each.queries)


def _classes(classes: Sequence[ClassRecall]) -> str:
    """Return some classes with their figures."""
    names = [
        f"{quoted(each.name)} ({100 * each.recall:.1f} % of {each.queries:,}, {each.images:,} images)"
        for each in classes[:NAMED]
    ]
    return listed(names)


def failed_in(verdict: Rejected) -> tuple[Condition, ...]:
    """Return the conditions that the closest way to serve fails; empty where none was judged."""
    way = closest(verdict)
    return way.failed if way else ()
