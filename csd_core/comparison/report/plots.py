"""The pictures of a profile over its contenders: forgetting, and Recall@1 along the tasks."""

from collections.abc import Mapping, Sequence
from typing import Literal

from csd_core.comparison.report.styles import NAME, WIDTH, Look, looks
from csd_core.comparison.report.upgrade_plots import old_items
from csd_core.comparison.results.figures import Comparison, Measured
from csd_core.comparison.results.intervals import Spread, spread
from csd_core.report.charts.svg import Axes, Chart, line, marker, path, shortened, text, ticks
from csd_core.report.charts.svg import spread as apart
from csd_core.report.charts.tasks import LABEL_GAP, MANY_STAGES
from csd_core.report.narrative import MINUS, percent, plain

LEGEND = 17
"""Pixels from one line of a legend to the next."""


def pictures(comparison: Comparison, profile: str) -> dict[str, Chart]:
    """Return the pictures of a profile by what they show; those that would be empty are left out."""
    drawn = {
        "forgetting-own": _forgetting(comparison, profile, "own"),
        "forgetting-seen": _forgetting(comparison, profile, "seen"),
        "recall-seen": _along_tasks(comparison, profile, "seen"),
        "recall-first": _along_tasks(comparison, profile, "first"),
        "old-items": old_items(comparison, profile),
    }
    return {what: chart for what, chart in drawn.items() if chart is not None}


def _spreads(comparison: Comparison, profile: str, *names: str) -> dict[str, list[Spread]]:
    """Contender -> spreads of some measures over its seeds; left out where it lacks one."""
    found = {}
    for contender in comparison.contenders(profile):
        cells = list(comparison.runs(profile, contender).values())
        each = [spread([value for cell in cells if (value := cell.at(name)) is not None]) for name in names]
        present = [one for one in each if one is not None]
        if len(present) == len(names):
            found[contender] = present
    return found


def _mark(tick: float) -> str:
    return f"{100 * tick:g}".replace("-", MINUS)


# --- forgetting -------------------------------------------------------------------------------------------------------


def _forgetting(comparison: Comparison, profile: str, which: Literal["own", "seen"]) -> Chart | None:
    """Forgetting in classification (across) and in retrieval (up), with standard deviations."""
    found = _spreads(comparison, profile, f"forgetting_{which}_accuracy", f"forgetting_{which}_recall")
    if not found:
        return None
    where = "own gallery and classes" if which == "own" else "everything seen"
    across = _ticks_around([each[0] for each in found.values()])
    up = _ticks_around([each[1] for each in found.values()])
    height = max(286.0, 92 + LEGEND * len(found))
    axes = Axes(
        left=44,
        right=280,
        top=30,
        bottom=height - 46,
        first=across[0],
        last=across[-1],
        low=up[0],
        high=up[-1],
    )
    body = axes.horizontal(up, [_mark(tick) for tick in up])
    for tick in across:
        body += line(axes.x(tick), axes.top, axes.x(tick), axes.bottom, "grid")
        body += text(axes.x(tick), axes.bottom + 17, _mark(tick), anchor="middle")
    body += text((axes.left + axes.right) / 2, axes.bottom + 36, "forgotten in classification, points", anchor="middle")
    low, high = max(across[0], up[0]), min(across[-1], up[-1])
    body += line(axes.x(low), axes.y(low), axes.x(high), axes.y(high), "quo")
    styles, words = looks(comparison), []
    ranked = sorted(found, key=lambda name: -found[name][1].mean)
    for place, name in enumerate(ranked):
        body += _legend_line(axes.right + 22, axes.top + 6 + LEGEND * place, name, styles[name], comparison)
    for name in sorted(ranked, key=lambda name: name == comparison.reference):
        x, y = found[name]
        look = styles[name]
        told = f"{name}: classification {plain(x.mean)}, retrieval {plain(y.mean)} points"
        words.append(told)
        body += _bars(axes, x, y, look) + marker(axes.x(x.mean), axes.y(y.mean), look.shape, look.fill, told)
    body += text(8, 14, "forgotten in retrieval, points")
    return Chart(
        name=f"{profile}-forgetting-{which}",
        title=f"{profile}: forgetting, {where}",
        description=f"Mean forgetting in points. {'; '.join(words)}. The dashed line is where both are equal.",
        width=WIDTH,
        height=height,
        body=body,
    )


def _ticks_around(found: Sequence[Spread]) -> list[float]:
    """Ticks over means and deviations, with zero and at least two points."""
    ends = [each.mean + sign * (each.deviation or 0.0) for each in found for sign in (-1, 1)]
    return ticks(min(0.0, *ends), max(0.02, *ends))


def _bars(axes: Axes, x: Spread, y: Spread, look: Look) -> str:
    """Return a cross of plus and minus one standard deviation."""
    body = ""
    if x.deviation:
        ends = [(axes.x(x.mean + sign * x.deviation), axes.y(y.mean)) for sign in (-1, 1)]
        body += path(ends, f"line thin {look.stroke}", opacity=0.5)
    if y.deviation:
        ends = [(axes.x(x.mean), axes.y(y.mean + sign * y.deviation)) for sign in (-1, 1)]
        body += path(ends, f"line thin {look.stroke}", opacity=0.5)
    return body


def _legend_line(x: float, y: float, name: str, look: Look, comparison: Comparison) -> str:
    style = "strong" if name == comparison.reference else ""
    return marker(x, y - 4, look.shape, look.fill, name) + text(x + 10, y, shortened(name, NAME), style=style)


# --- along the tasks --------------------------------------------------------------------------------------------------


def _along_tasks(comparison: Comparison, profile: str, which: Literal["seen", "first"]) -> Chart | None:
    """Recall@1 after each stage: over everything seen, or of the first task on its own gallery."""
    tasks = comparison.tasks(profile)
    lines: dict[str, list[tuple[int, Spread]]] = {}
    for contender in comparison.contenders(profile):
        cells = list(comparison.runs(profile, contender).values())
        each = (spread(_after(cells, task, tasks[0] if which == "first" else None)) for task in tasks)
        lines[contender] = [(stage, found) for stage, found in enumerate(each) if found is not None]
    lines = {contender: points for contender, points in lines.items() if points}
    if not lines:
        return None
    means = [found.mean for points in lines.values() for _, found in points]
    marks = [tick for tick in ticks(min(*means, max(means) - 0.01), max(means)) if tick <= 1]
    height = max(250.0, 60 + LABEL_GAP * len(lines))
    axes = Axes(
        left=40,
        right=270,
        top=16,
        bottom=height - 34,
        first=0,
        last=len(tasks) - 1,
        low=min(marks[0], marks[-1] - 0.01),
        high=max(marks[-1], *means),
    )
    body = axes.horizontal(marks, [f"{100 * mark:g}" for mark in marks])
    every = -(-len(tasks) // MANY_STAGES)
    for stage, task in enumerate(tasks):
        if (len(tasks) - 1 - stage) % every == 0:
            body += text(axes.x(stage), axes.bottom + 20, shortened(task, 8), anchor="middle")
    title = f"{profile}: Recall@1 " + ("over everything seen" if which == "seen" else f"of {tasks[0]}, own gallery")
    ends = "; ".join(f"{contender} {percent(points[-1][1].mean)}" for contender, points in lines.items())
    return Chart(
        name=f"{profile}-recall-{which}",
        title=title,
        description=f"{title}, in percent after each stage, mean over seeds. At the end: {ends}.",
        width=WIDTH,
        height=height,
        body=body + _lines(comparison, lines, tasks, axes),
    )


def _after(cells: Sequence[Measured], task: str, on: str | None) -> list[float]:
    measure = "recall_seen" if on is None else "recall_own"
    return [value for cell in cells if (value := cell.at(measure, task, on)) is not None]


def _lines(
    comparison: Comparison, lines: Mapping[str, Sequence[tuple[int, Spread]]], tasks: Sequence[str], axes: Axes
) -> str:
    """Return a line for each contender through its stages, the reference on top, and its name at the end."""
    styles, reference = looks(comparison), comparison.reference
    body, ends = "", []
    for contender, points in sorted(lines.items(), key=lambda each: each[0] == reference):
        look = styles[contender]
        places = [(axes.x(stage), axes.y(found.mean)) for stage, found in points]
        body += path(places, f"line {'' if contender == reference else 'thin '}{look.stroke}")
        for (stage, found), (x, y) in zip(points, places, strict=True):
            told = f"{contender} after {tasks[stage]}: {plain(found.mean)} ± {plain(found.deviation)} %"
            body += marker(x, y, look.shape, look.fill, told)
        label = f"{shortened(contender, NAME)} {percent(points[-1][1].mean)}"
        ends.append((*places[-1], label, "strong" if contender == reference else ""))
    targets = apart([y for _, y, _, _ in ends], gap=LABEL_GAP, low=axes.top, high=axes.bottom)
    for (x, y, label, style), target in zip(ends, targets, strict=True):
        if abs(target - y) > 1:
            body += path([(x + 5, y), (axes.right + 12, target)], "lead")
        body += text(axes.right + 15, target + 4, label, style=style)
    return body
