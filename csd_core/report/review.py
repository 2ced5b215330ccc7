"""What a person reads before deciding on a candidate: the gate's verdict, and what each decision would do.

All of it comes from the check, so from gate queries alone.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from itertools import groupby

from csd_core.params.upgrade import Choice
from csd_core.records.check import Alternative, Recalls
from csd_core.records.verdict import Rejected, Way, left_out, outcome_in_words
from csd_core.report.charts.reviews import heat_map
from csd_core.report.charts.svg import Chart
from csd_core.report.narrative import count, listed, percent, quoted
from csd_core.report.review_case import (
    Case,
    Line,
    failed_in,
    first_of,
    recall_of,
    rows_of,
    standing,
    table_of,
)
from csd_core.report.verdicts import judged_in_words, rows_in_words

REASONS = 2
"""Failed conditions that are told of each strategy; the others are folded away."""

_MARKUP = re.compile(r"([\\`*_{}\[\]#!|~$^=])")
_LINK = re.compile(r"(:(?=//)|@(?=[\w-]+\.)|www(?=\.))", re.IGNORECASE)
_WORD_JOINER = "\N{WORD JOINER}"
"""Prefect's page makes links of bare addresses, even of escaped ones; this invisible character prevents it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewPage:
    """A review, ready to be shown.

    Attributes:
        title: What the gate decided, in a few words.
        headline: The same with its reason, as a sentence in Markdown.
        verdict: Markdown: why, what becomes of the stored vectors, what may be chosen and what not.
        table: A row for each way to serve: Recall@1 of all, old and new items' queries and flips in percent, and rows.
        heat_map: Recall@1 of each way to serve, task by task.
        flips: Queries that search would lose, as pictures; None where there are none.
        confusions: The most frequent confusions, as pictures; None where no query misses.
    """

    title: str
    headline: str
    verdict: str
    table: tuple[Line, ...]
    heat_map: Chart
    flips: Chart | None
    confusions: Chart | None


def escaped(words: str) -> str:
    """Words that may hold names from users' data, as Markdown shows them unchanged."""
    plain = escape(" ".join(words.split()), quote=False)
    return _LINK.sub(rf"\1{_WORD_JOINER}", _MARKUP.sub(r"\\\1", plain))


def markdown_with_code(words: str) -> str:
    """Sentences as Markdown: what stands between backticks is code, all else is shown unchanged."""
    parts = " ".join(words.split()).split("`")
    if len(parts) % 2 == 0:  # a name holds a backtick
        return escaped(words)
    return "".join(f"`{part}`" if number % 2 else _edges(part) for number, part in enumerate(parts))


def _edges(part: str) -> str:
    """Return words escaped, with the blanks at both ends."""
    inner = part.strip()
    start, end = part[: len(part) - len(part.lstrip())], part[len(part.rstrip()) :]
    return f"{start}{escaped(inner)}{end}" if inner else part


def review_of(case: Case, *, flips: Chart | None, confusions: Chart | None) -> ReviewPage:
    """Everything a person sees of a case; the charts of queries were drawn where the images are."""
    task = case.report.task
    how = "rejected" if isinstance(case.verdict, Rejected) else outcome_in_words(case.verdict)
    return ReviewPage(
        title=f"{task}: {how}",
        headline=markdown_with_code(_headline(case)),
        verdict="\n\n".join(_sections(case)),
        table=tuple(table_of(case)),
        heat_map=heat_map(task, rows=list(rows_of(case)), tasks=case.tasks, status_quo=case.report.status_quo),
        flips=flips,
        confusions=confusions,
    )


# --- the decision in words --------------------------------------------------------------------------------------------


def _headline(case: Case) -> str:
    verdict, chosen, task = case.verdict, case.chosen, case.report.task
    by_gate = next((way for way in verdict.judged if way.passed), None)
    if verdict.decision != "auto":
        alone = f"promote it under {by_gate.name}" if by_gate and by_gate.strategy != "none" else "promote it"
        how = f"chose {chosen.name} for {task}'s candidate" if chosen else f"rejected {task}'s candidate"
        if verdict.decision == "none":
            how = f"accepted {task}'s candidate as the first model"
        return f"An operator {how}; the gate alone would {alone if by_gate else 'reject it'}."
    if isinstance(verdict, Rejected):
        return f"{task}: {verdict.what}: {_against(case)}. {case.advice.steps[0].words}"
    if chosen is None or chosen.strategy == "none":
        return f"The gate takes {task}'s candidate as the first model: {_conditions(by_gate)}."
    quo = case.report.status_quo
    return (
        f"The gate promotes {task}'s candidate under {chosen.name}, the cheapest way that meets every condition: "
        f"{rows_in_words(chosen, case.old_rows)}; Recall@1 of all gate queries goes from "
        f"{percent(quo.overall.recall_at_1 if quo else None)} to {percent(recall_of(chosen))} %."
    )


def _conditions(way: Way | None) -> str:
    return "; ".join(condition.words for condition in way.conditions) if way else ""


def _against(case: Case) -> str:
    """Return why no way to serve passes, by the one that failed least."""
    judged = case.verdict.judged
    if not judged:
        return "; ".join(left_out(case.verdict.ways))
    closest = min(judged, key=lambda way: len(way.failed))
    words = first_of(failed_in(closest))
    if closest.strategy == "none":
        return words
    return f"no way that was judged meets every condition. The closest is {closest.name}: {words}"


def _sections(case: Case) -> Iterator[str]:
    if case.advice.steps:
        steps = [
            f"{number}. {markdown_with_code(step.words)}" for number, step in enumerate(case.advice.steps, start=1)
        ]
        yield "### What you can do, the most promising first\n\n" + "\n".join(steps)
    if case.advice.warnings:
        yield "### Warnings\n\n" + "\n".join(f"- {markdown_with_code(each)}" for each in case.advice.warnings)
    yield f"### Why\n\n{_why(case)}"
    yield _folded(case)
    yield f"### What becomes of the gallery\n\n{_gallery(case)}"
    yield f"### What you may choose\n\n{_choices(case)}"
    refused = [f"- **{each.choice}**: {escaped(each.why_not)}" for each in case.options if each.why_not]
    if refused:
        yield "### What you cannot choose\n\n" + "\n".join(refused)
    if case.nearest and case.nearest.by_class and case.nearest.by_class.worst:
        yield f"### The worst classes\n\n{_classes(case.nearest)}"
    if case.nearest and case.report.status_quo:
        yield f"### What search would lose\n\n{_lost(case.nearest, least_bad=case.chosen is None)}"


def _why(case: Case) -> str:
    """Return each way to serve with the first conditions that it fails on `gate`, or why it was not judged there.

    Ways that follow each other and were left out for one reason share a line.
    """
    lines = []
    for _, alike in groupby(case.verdict.ways, key=lambda way: judged_in_words(way) if way.why_not else way.name):
        way, *others = alike
        names = ", ".join(f"**{escaped(each.name)}**" for each in (way, *others))
        words = f"- {names} {escaped(judged_in_words(way))}"
        failed = failed_in(way)
        lines.append(words + "".join(f"\n  - {escaped(each)}" for each in failed[:REASONS]))
        if len(failed) > REASONS:
            lines[-1] += f"\n  - and {count(len(failed) - REASONS, 'more condition')}, below"
    return "\n".join(lines)


def _gallery(case: Case) -> str:
    chosen, report = case.chosen, case.report
    classes = [quoted(name) for name in case.arrived.classes]
    images = f"{sum(case.arrived.counts.values()):,} images of {count(len(classes), 'class', 'classes')}"
    words = [escaped(f"{report.task} brings {images}: {listed(classes)}.")]
    if report.pending:
        words.append(escaped(f"The candidate also learned from {listed(report.pending)}, which waited."))
    if chosen is None and report.champion is None:
        words.append("There is no model yet, so they wait.")
    elif chosen is None:
        words.append(f"The champion stays and embeds {case.new_rows:,} new rows; their images wait for the next stage.")
    else:
        words.append(f"The candidate embeds {case.new_rows:,} new rows.")
    if case.old_rows:
        words.append(f"Of {case.old_rows:,} stored rows {_cost(chosen)}.")
    return " ".join(words)


def _cost(chosen: Alternative | None) -> str:
    if chosen is None or not chosen.rows_embedded + chosen.rows_mapped:
        return "none changes"
    return f"{chosen.rows_embedded:,} are re-embedded and {chosen.rows_mapped:,} mapped"


def _choices(case: Case) -> str:
    report, chosen = case.report, case.chosen
    quo = report.status_quo.overall if report.status_quo else None
    decided = "reject" if chosen is None else "promote it as first model" if chosen.strategy == "none" else chosen.name
    lines = [
        "| Choice | Recall@1 | Embedded | Mapped | Images that go live | What it does |",
        "|---|---:|---:|---:|---:|---|",
    ]
    by = "the gate" if case.verdict.decision == "auto" else "params.yaml"
    searchable = case.new_rows if report.champion else 0
    words = f"as {by} decided: {decided}"
    if chosen is None and searchable:
        words += ", as reject-model does; as reject where the deployment stops after a rejection"
    lines.append(_choice("approve", words, chosen, quo, live=case.new_rows if chosen else searchable))
    lines += [
        _choice(each.choice, _served(each.alternative, case), each.alternative, quo, live=case.new_rows)
        for each in case.options
        if each.alternative
    ]
    if searchable:
        words = "the champion stays; the new images are searchable under it and train the next task"
        lines.append(_choice("reject-model", words, None, quo, live=searchable))
    for name, words in _NOTHING_LIVE.items():
        lines.append(_choice(name, words, None, quo, live=0))
    return "\n".join(lines)


_NOTHING_LIVE: dict[Choice, str] = {
    "reject-data": "the batches are set aside with your reason, until they are returned",
    "reject-classes": "the classes that you name are set aside; the other images wait in the inbox again",
    "reject": "the batches wait in the inbox again",
}
"""Rejections that leave search as it is -> what becomes of the images."""


def _served(alternative: Alternative, case: Case) -> str:
    passes = standing(alternative, case)[0]
    gate = {"yes": "passes the gate", "no": "fails the gate"}.get(passes, f"{passes} by the gate")
    return f"{gate}; {rows_in_words(alternative, case.old_rows)}"


def _choice(name: str, words: str, alternative: Alternative | None, quo: Recalls | None, *, live: int) -> str:
    embedded, mapped = (alternative.rows_embedded, alternative.rows_mapped) if alternative else (0, 0)
    recall = recall_of(alternative) if alternative else quo.at[1] if quo else None
    return f"| `{name}` | {percent(recall)} | {embedded:,} | {mapped:,} | {live:,} | {escaped(words)} |"


def _classes(alternative: Alternative) -> str:
    """Return the worst classes under a way to serve, with their gate queries that hit."""
    lines = ["| Class | Gate queries | Hit today | Would hit | Recall@1 | Images |", "|---|---:|---:|---:|---:|---:|"]
    for each in alternative.by_class.worst if alternative.by_class else ():
        today = "" if each.before is None else f"{each.before:,}"
        lines.append(
            f"| {escaped(each.name)} | {each.queries:,} | {today} | {each.after:,} | {percent(each.recall)} | "
            f"{each.images:,} |"
        )
    return f"Under {alternative.name}, worst first.\n\n" + "\n".join(lines)


def _lost(alternative: Alternative, *, least_bad: bool) -> str:
    pairs = alternative.against_status_quo["overall"]
    under = f"{alternative.name}{', the least bad way,' if least_bad else ''}"
    return (
        f"Under {under} {pairs.lost:,} of {pairs.queries:,} gate queries hit today and would miss; "
        f"{pairs.gained:,} miss today and would hit."
    )


def _folded(case: Case) -> str:
    """Return every condition of every way that was judged; without a blank line, or not every page folds it."""
    items = [
        f"<li>{way.name} {'meets' if each.passed else '<b>fails</b>'}: {escape(each.words)}</li>"
        for way in case.verdict.ways
        for each in way.conditions
    ]
    return f"<details><summary>Every condition</summary><ul>{''.join(items)}</ul></details>"
