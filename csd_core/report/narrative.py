"""The story in words: every sentence follows from figures, and says so when there is none."""

import math

from csd_core.params.upgrade import Strategy
from csd_core.records.verdict import Rejected
from csd_core.report.data import ReportData
from csd_core.report.scores import Metrics
from csd_core.system.words import DASH, LISTED, NUMBERS, count, listed, percent, quoted

__all__ = [
    "DASH",
    "FRACTIONS",
    "LISTED",
    "MINUS",
    "NEARLY",
    "NUMBERS",
    "SAME",
    "count",
    "fraction",
    "headline",
    "listed",
    "percent",
    "plain",
    "points",
    "quoted",
    "sentences",
]

FRACTIONS = {
    0.1: "a tenth",
    0.2: "a fifth",
    0.25: "a quarter",
    1 / 3: "a third",
    0.5: "half",
    2 / 3: "two thirds",
    0.75: "three quarters",
    0.9: "nine tenths",
}

NEARLY = 0.005
"""Shares closer than this to a fraction go by its name."""

MINUS = "\N{MINUS SIGN}"

SAME = 5e-4
"""Figures closer than this print alike, to a tenth of a point."""


def plain(share: float | None) -> str:
    """A share or a difference of shares times 100, to a hundredth, with a true minus; a dash where there is none."""
    return percent(share, digits=2).replace("-", MINUS)


def points(share: float | None) -> str:
    """Return a difference of shares in points, signed with a true minus; a dash where there is none."""
    if share is None or math.isnan(share):
        return DASH
    value = round(100 * share, 1)
    return f"{value:+.1f}".replace("-", MINUS) if value else "0.0"


def fraction(share: float) -> str:
    """Return a share as a sentence says it."""
    return next((word for known, word in FRACTIONS.items() if abs(share - known) < NEARLY), f"{percent(share)} %")


def headline(report_data: ReportData) -> str:
    """Return what became of the candidates, in a line."""
    promoted = [task for task in report_data.tasks if task.promoted]
    rejected = len(report_data.tasks) - len(promoted)
    tasks = count(len(report_data.tasks), "task").capitalize()
    if not promoted:
        return f"{tasks}, no model promoted"
    if not rejected:
        every = {1: "its model", 2: "both models"}.get(len(report_data.tasks), "every model")
        return f"{tasks}, {every} promoted"
    return f"{tasks}, {count(len(promoted), 'promotion')}, {count(rejected, 'rejection')}"


def sentences(report_data: ReportData, metrics: Metrics) -> tuple[str, str, str]:
    """Return what was learned, what that did to search, what the gate decided."""
    return _learned(report_data), _search(report_data, metrics), _gate(report_data)


def _learned(report_data: ReportData) -> str:
    images = sum(sum(task.shard.counts.values()) for task in report_data.tasks)
    tasks = len(report_data.tasks)
    classes = count(len(report_data.classes), "class", "classes")
    arrived = f"{count(tasks, 'task').capitalize()} brought {classes} in {images:,} images"
    champion, seen = report_data.champion, report_data.figures.all_seen[-1]
    if champion is None:
        return f"{arrived}, but no model has been promoted, so nothing can be searched yet."
    model = f"the active model, from {champion.task},"
    if seen is None:
        return f"{arrived}; {model} cannot be measured, for no test image has a second one of its class."
    sentence = (
        f"{arrived}; {model} finds an image of the same class first for {percent(seen.at[1])} % "
        f"of {seen.queries:,} test queries over everything seen."
    )
    unknown = [name for name in report_data.classes if name not in set(champion.classes)]
    if unknown:
        one = len(unknown) == 1
        sentence = sentence[:-1] + (
            f", although it never learned the {'class' if one else 'classes'} "
            f"{listed([quoted(name) for name in unknown])}, "
            f"which {'is' if one else 'are'} searched all the same."
        )
    return sentence


def _search(report_data: ReportData, metrics: Metrics) -> str:
    if report_data.champion is None:
        return (
            "Search has not changed, because there is none: the first promoted model will embed every image that waits."
        )
    retrieval, classification = metrics.retrieval, metrics.classification
    if retrieval.own.average is None:
        return "What that did to search cannot be said, for no test image has a second one of its class."
    if retrieval.own.forgetting is None or classification.own.forgetting is None:
        return (
            "There is nothing to forget yet: on its own gallery the task reaches "
            f"{percent(retrieval.own.average)} % Recall@1, and the classifier names "
            f"{percent(classification.own.average)} % of its test images correctly."
        )
    if len(report_data.generations) == 1:
        return (
            f"The same model has served since {report_data.generations[0].task}, so no task lost anything on its own "
            f"gallery (Recall@1 {percent(retrieval.own.average)} % on average); what changed is how much it must tell "
            "apart."
        )
    own, seen = retrieval.own.forgetting, retrieval.all_seen.forgetting
    own_class, seen_class = classification.own.forgetting, classification.all_seen.forgetting
    return (
        f"Searching its own gallery, an earlier task {_fell(own)} on average, and among its own classes the classifier "
        f"{_fell(own_class)}; over everything seen it is {percent(seen)} points of Recall@1 against "
        f"{percent(seen_class)} of accuracy: {_moral(own, own_class, seen, seen_class)}."
    )


def _fell(forgotten: float) -> str:
    if abs(forgotten) < SAME:
        return "lost nothing"
    return f"{'lost' if forgotten > 0 else 'gained'} {percent(abs(forgotten))} points"


def _moral(own: float, own_class: float, seen: float | None, seen_class: float | None) -> str:
    less_own = own < own_class - SAME
    less_seen = seen is not None and seen_class is not None and seen < seen_class - SAME
    if less_own and less_seen:
        return "the features forget less than the classifier"
    if less_own or less_seen:
        where = "within a task" if less_own else "over all classes"
        return f"the features forget less than the classifier {where} only"
    return "here the features forget no less than the classifier"


def _gate(report_data: ReportData) -> str:
    if all(not task.promoted for task in report_data.tasks):
        last = report_data.tasks[-1]
        why = last.verdict.because if isinstance(last.verdict, Rejected) else ""
        if len(report_data.tasks) == 1:
            return f"The only candidate, {last.name}, was rejected: {why}"
        which = "Both candidates were" if len(report_data.tasks) == 2 else "Every candidate was"  # noqa: PLR2004
        return f"{which} rejected, {last.name} at last: {why}"
    how = [
        part
        for part in (
            _promotions(report_data, "none", "took {} as the first model"),
            _promotions(report_data, "keep", "let {} search the stored vectors as they are"),
            _promotions(report_data, "adapt", "had the stored vectors mapped for {}"),
            _promotions(report_data, "merge", "kept the previous model for the stored vectors beside {}"),
            _partial_backfills(report_data),
            _promotions(report_data, "backfill", "had every vector re-embedded for {}"),
            _rejections(report_data),
        )
        if part
    ]
    sentence = "The gate " + (", ".join(how[:-1]) + " and " + how[-1] if len(how) > 1 else how[0])
    waiting = _waiting(report_data)
    if waiting:
        sentence += f"; the data of {listed(waiting)} {'waits' if len(waiting) == 1 else 'wait'} for the next stage"
    overruled = [task.name for task in report_data.tasks if task.verdict.decision != "auto"]
    if overruled:
        sentence += f" (an operator decided {listed(overruled)})"
    return sentence + "."


def _promotions(report_data: ReportData, strategy: Strategy, words: str) -> str:
    names = [task.name for task in report_data.tasks if task.entry.strategy == strategy]
    return words.format(listed(names)) if names else ""


def _partial_backfills(report_data: ReportData) -> str:
    names = [
        f"{task.name} ({fraction(chosen.rows_embedded / task.old_rows)}, "
        f"the rest {'mapped' if chosen.rows_mapped else 'left as it was'})"
        for task in report_data.tasks
        if (chosen := task.chosen) and chosen.strategy == "partial"
    ]
    return f"had part of the stored vectors re-embedded for {listed(names)}" if names else ""


def _rejections(report_data: ReportData) -> str:
    names = [task.name for task in report_data.tasks if not task.promoted]
    return f"rejected {listed(names)}" if names else ""


def _waiting(report_data: ReportData) -> list[str]:
    """Return tasks rejected since the last promotion."""
    names: list[str] = []
    for task in report_data.tasks:
        names = [] if task.promoted else [*names, task.name]
    return names
