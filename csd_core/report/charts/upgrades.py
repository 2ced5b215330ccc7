"""Charts of an upgrade: what each way to serve a candidate costs and finds, and what the galleries are made of."""

from collections.abc import Iterator, Sequence

from csd_core.records.check import PartialCurve, PartialCurves
from csd_core.report.charts.svg import Axes, Chart, box, line, marker, number, path, shortened, spread, text, ticks
from csd_core.report.data import ReportData, TaskStory
from csd_core.report.narrative import percent
from csd_core.report.options import BatchStatus, Option, options
from csd_core.report.stored import Kind

LABEL_GAP = 14.5
"""Pixels between two labels on top of each other."""
WIDTH = 460
MARGIN = 6
BAR = 46
"""Pixels from one task's bar to the next."""
COST = "share of the old vectors re-embedded, %"

STYLES: dict[BatchStatus, str] = {"passed": "fill-retrieval", "failed": "hollow", "unjudged": "pale"}
STANDINGS: dict[BatchStatus, str] = {"passed": "passes", "failed": "fails", "unjudged": "not judged"}

KINDS: dict[Kind, tuple[str, str]] = {
    "made": ("fill-retrieval", "made by the active model"),
    "mapped": ("pale", "mapped into its space"),
    "kept": ("hollow", "kept in an older space"),
}


def upgrade_charts(report_data: ReportData) -> Iterator[Chart]:
    """For each task whose candidate met an old gallery, and one of the galleries."""
    for task in report_data.tasks:
        found = [option for option in options(task) if option.recall is not None]
        if found and task.check.status_quo:
            yield _frontier(task, found, task.check.status_quo.overall.at[1])
        if task.check.partial:
            yield _curves(task, task.check.partial)
        if task.check.during_backfill:
            yield _during_backfill(task)
    if any(task.groups for task in report_data.tasks):
        yield _make_up(report_data)


def _marks(recalls: Sequence[float]) -> list[float]:
    """Ticks that cover some recalls and at least a point, none above 1."""
    high = max(recalls)
    return [mark for mark in ticks(min(*recalls, high - 0.01), high) if mark <= 1]


def _frame(axes: Axes, marks: Sequence[float], *, left: float) -> str:
    """Grid lines from `left` on, shares from 0 to 100 % below."""
    body = "".join(
        line(left, axes.y(mark), axes.right, axes.y(mark), "grid")
        + text(left - 8, axes.y(mark) + 4, f"{100 * mark:g}", anchor="end")
        for mark in marks
    )
    for share in (0, 0.25, 0.5, 0.75, 1):
        body += line(axes.x(share), axes.bottom, axes.x(share), axes.bottom + 4, "grid")
        body += text(axes.x(share), axes.bottom + 18, f"{100 * share:g}", anchor="middle")
    return body + text(axes.x(0.5), axes.bottom + 35, COST, anchor="middle")


def _legend(entries: Sequence[tuple[int, str, str]], *, left: float, y: float) -> str:
    """Marks with their words in a row: (shape, style, words)."""
    body, x = "", left
    for shape, style, words in entries:
        body += marker(x, y - 4, shape, style, words) + text(x + 9, y, words)
        x += 30 + 7.4 * len(words)
    return body


def _ring(x: float, y: float) -> str:
    return f'<circle class="ring" cx="{number(x)}" cy="{number(y)}" r="8"/>'


def _clear_of(obstacle: float, y: float, axes: Axes) -> float:
    """Where a label of the point at `y` stands: above it, or below where it would meet a line or leave the frame."""
    above = y - 14
    return above if above > axes.top - 4 and not above - 12 < obstacle < above + 5 else y + 24


def _labels(ends: Sequence[tuple[float, float, str, str]], axes: Axes, *, x: float, anchor: str = "start") -> str:
    """Labels in a column at `x` for points (x, y, words, style), apart from each other."""
    targets = spread([y for _, y, _, _ in ends], gap=LABEL_GAP, low=axes.top, high=axes.bottom)
    body = ""
    for (at, y, words, style), target in zip(ends, targets, strict=True):
        if abs(target - y) > 1:
            side = 3 if anchor == "end" else -3
            body += path([(at, y), (x + side, target)], "lead")
        body += text(x, target + 4, words, anchor=anchor, style=style)
    return body


# --- cost against recall ----------------------------------------------------------------------------------------------


def _frontier(task: TaskStory, found: Sequence[Option], quo: float) -> Chart:
    """Each way to serve by its cost and recall; the partial backfills join what becomes of the rest to all anew."""
    recalls = [option.recall or 0.0 for option in found]
    marks = _marks([*recalls, quo])
    left = 40
    axes = Axes(left=132, right=328, top=34, bottom=222, first=0, last=1, low=marks[0], high=marks[-1])
    places = [(axes.x(option.cost), axes.y(recall)) for option, recall in zip(found, recalls, strict=True)]
    body = _frame(axes, marks, left=left) + line(axes.x(0), axes.y(quo), axes.right + 4, axes.y(quo), "quo")
    rest = task.check.partial.rest if task.check.partial else None
    joined = [
        place
        for option, place in zip(found, places, strict=True)
        if option.alternative.strategy in {rest, "partial", "backfill"}
    ]
    if len(joined) > 1:
        body += path(joined, "line thin retrieval", opacity=0.5)
    cheap: list[tuple[float, float, str, str]] = []
    dear: list[tuple[float, float, str, str]] = [(axes.right + 4, axes.y(quo), f"status quo {percent(quo)}", "")]
    for option, recall, (x, y) in zip(found, recalls, places, strict=True):
        name, mapped = option.alternative.name, option.alternative.rows_mapped
        tip = (
            f"{name}: Recall@1 {percent(recall)} %, {option.alternative.rows_embedded:,} old rows re-embedded, "
            f"{mapped:,} mapped; {option.words}"
        )
        if option.chosen:
            body += _ring(x, y)
        body += marker(x, y, 1 if mapped else 0, STYLES[option.standing], tip)
        style, words = "strong" if option.chosen else "", f"{name} {percent(recall)}"
        if option.alternative.strategy == "backfill":
            dear.append((x + 5, y, words, style))
        elif option.alternative.strategy != "partial":
            cheap.append((x - 5, y, words, f"{style} halo".strip()))
        elif option.chosen:
            body += text(x, _clear_of(axes.y(quo), y, axes), words, anchor="middle", style="strong halo")
    body += _labels(cheap, axes, x=axes.x(0) - 12, anchor="end") + _labels(dear, axes, x=axes.right + 14)
    standings = {option.standing for option in found}
    entries = [(0, STYLES[each], words) for each, words in STANDINGS.items() if each in standings]
    if any(option.alternative.rows_mapped for option in found):
        entries.append((1, "neutral", "rows mapped"))
    body += _legend(entries, left=left + 4, y=14)
    return Chart(
        name=f"frontier-{task.name}",
        title=f"{task.name}: Recall@1 against cost, on gate",
        description=(
            f"Recall@1 in percent against the {COST}. Status quo {percent(quo)}; "
            + "; ".join(
                f"{option.alternative.name} {percent(option.recall)} at {percent(option.cost, digits=0)} %"
                + (", chosen" if option.chosen else "")
                for option in found
            )
            + "."
        ),
        width=WIDTH,
        height=270,
        body=body,
    )


# --- partial backfills ------------------------------------------------------------------------------------------------


def _curves(task: TaskStory, partial: PartialCurves) -> Chart:
    """Recall on `select` against the share re-embedded, a line for each order; the area under it tells them apart."""
    recalls = [recall for curve in partial.curves for recall in curve.recalls]
    marks = _marks(recalls)
    axes = Axes(left=40, right=290, top=34, bottom=222, first=0, last=1, low=marks[0], high=marks[-1])
    body = _frame(axes, marks, left=axes.left)
    taken = task.chosen.share if task.chosen and task.chosen.strategy == "partial" else None
    if taken is not None:
        body += line(axes.x(taken), axes.top, axes.x(taken), axes.bottom, "stage")
        body += text(axes.x(taken), axes.top - 8, f"{100 * taken:g} % taken", anchor="middle")
    shapes = {curve.order: shape for shape, curve in enumerate(partial.curves)}
    for curve in sorted(partial.curves, key=lambda curve: curve.order == partial.order):  # the best is drawn on top
        body += _curve(curve, axes, shape=shapes[curve.order], best=curve.order == partial.order, taken=taken)
    body += text(axes.right + 22, axes.top + 4, "area under it")
    ranked = sorted(partial.curves, key=lambda curve: -curve.area)
    for place, curve in enumerate(ranked, 1):
        y, best = axes.top + 4 + 19 * place, curve.order == partial.order
        body += marker(axes.right + 26, y - 4, shapes[curve.order], "fill-retrieval" if best else "pale", "")
        words = f"{curve.order} {percent(curve.area)}"
        body += text(axes.right + 36, y, words, style="strong" if best else "")
    return Chart(
        name=f"partial-{task.name}",
        title=f"{task.name}: how far part of a backfill gets, on select",
        description=(
            f"Recall@1 in percent against the {COST}, for each order in which rows are taken. Area under the line: "
            + ", ".join(f"{curve.order} {percent(curve.area)}" for curve in ranked)
            + (f". {100 * taken:g} % were taken." if taken is not None else ".")
        ),
        width=WIDTH,
        height=270,
        body=body,
    )


def _curve(curve: PartialCurve, axes: Axes, *, shape: int, best: bool, taken: float | None) -> str:
    places = [(axes.x(share), axes.y(recall)) for share, recall in zip(curve.shares, curve.recalls, strict=True)]
    body = path(places, "line retrieval" if best else "line thin retrieval", opacity=1 if best else 0.45)
    for share, recall, (x, y) in zip(curve.shares, curve.recalls, places, strict=True):
        if best and share == taken:
            body += _ring(x, y)
        tip = f"{curve.order}, {100 * share:g} %: {percent(recall)} %"
        body += marker(x, y, shape, "fill-retrieval" if best else "pale", tip)
    return body


# --- part of a backfill -----------------------------------------------------------------------------------------------


def _during_backfill(task: TaskStory) -> Chart:
    """Two ways to search a half-done gallery, and what is served: one gallery up to the last row, then the next."""
    points = task.check.during_backfill
    shares = [point.share for point in points]
    merged = [point.merged for point in points]
    naive = [(point.share, point.naive) for point in points if point.naive is not None]
    quo = task.check.status_quo.overall.at[1] if task.check.status_quo else None
    taken = task.chosen if task.chosen and task.chosen.strategy != "backfill" else None
    served = taken.measured.overall.at[1] if taken and taken.measured else None
    levels = [each for each in (quo, served) if each is not None]
    marks = _marks([*merged, *(recall for _, recall in naive), *levels])
    axes = Axes(left=40, right=328, top=34, bottom=222, first=0, last=1, low=marks[0], high=marks[-1])
    body = _frame(axes, marks, left=axes.left)
    ends = []
    words = []
    if quo is not None:
        body += line(axes.left, axes.y(quo), axes.right + 4, axes.y(quo), "quo")
        ends.append((axes.right + 4, axes.y(quo), f"status quo {percent(quo)}", ""))
        words.append(f"status quo {percent(quo)}")
    series = [("mixed", 1, "pale", "line thin retrieval", naive)] if naive else []
    series.append(("merged", 0, "fill-retrieval", "line retrieval", list(zip(shares, merged, strict=True))))
    for name, shape, fill, stroke, pairs in series:
        places = [(axes.x(share), axes.y(recall)) for share, recall in pairs]
        body += path(places, stroke, opacity=0.45 if "thin" in stroke else 1)
        for (share, recall), (x, y) in zip(pairs, places, strict=True):
            body += marker(x, y, shape, fill, f"{name}, {100 * share:g} % done: {percent(recall)} %")
        words.append(f"{name} from {percent(pairs[0][1])} to {percent(pairs[-1][1])}")
    if taken and served is not None:
        body += line(axes.left, axes.y(served), axes.right + 4, axes.y(served), "line thin retrieval")
        ends.append((axes.right + 4, axes.y(served), f"{taken.name} {percent(served)}", ""))
        words.append(f"{taken.name}, which is served until the last row is done, {percent(served)}")
    ends.append((axes.x(shares[-1]) + 5, axes.y(merged[-1]), f"done {percent(merged[-1])}", "strong"))
    entries = [(shape, fill, name) for name, shape, fill, *_ in reversed(series)]
    body += _legend(entries, left=axes.left + 4, y=14) + _labels(ends, axes, x=axes.right + 14)
    return Chart(
        name=f"during-{task.name}",
        title=f"{task.name}: galleries of which a share is re-embedded, and what is served until all is, on gate",
        description=f"Recall@1 in percent against the {COST}: {'; '.join(words)}.",
        width=WIDTH,
        height=270,
        body=body,
    )


# --- what galleries are made of ---------------------------------------------------------------------------------------


def _make_up(report_data: ReportData) -> Chart:
    """Return a bar for each task: how the rows of the gallery after it came to be."""
    sums = [
        {kind: sum(group.rows for group in task.groups if group.kind == kind) for kind in KINDS}
        for task in report_data.tasks
    ]
    scale = (WIDTH - 2 * MARGIN) / max(sum(rows.values()) for rows in sums)
    present = [kind for kind in KINDS if any(rows[kind] for rows in sums)]
    body = _legend([(1, KINDS[kind][0], kind) for kind in present], left=MARGIN + 4, y=14)
    words = []
    for place, (task, rows) in enumerate(zip(report_data.tasks, sums, strict=True)):
        top, x = 46 + BAR * place, float(MARGIN)
        label = " + ".join(f"{rows[kind]:,} {kind}" for kind in present if rows[kind]) or "empty"
        body += text(MARGIN, top, shortened(task.name), style="strong")
        body += text(WIDTH - MARGIN, top, label, anchor="end")
        for kind in present:
            if rows[kind]:
                style, made = KINDS[kind]
                tip = f"{rows[kind]:,} {made}"
                body += box(x, top + 7, max(scale * rows[kind], 1.5), 16, f"bar {style}", tip)
            x += scale * rows[kind]
        words.append(f"after {task.name} {label}")
    return Chart(
        name="gallery-rows",
        title="Rows of the gallery after each task",
        description=f"Rows of the gallery: {'; '.join(words)}.",
        width=WIDTH,
        height=34 + BAR * len(sums),
        body=body,
    )
