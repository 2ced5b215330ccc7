"""Charts for a person who decides on a candidate: each way to serve it task by task, and what search would lose."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from csd_core.records.check import Measurement
from csd_core.report.charts.svg import Chart, line, number, path, shortened, text
from csd_core.report.charts.thumbnails import Thumbnails
from csd_core.report.examples import Example, Neighbour
from csd_core.report.narrative import DASH, NUMBERS, SAME, count, listed, percent, points, quoted

COLUMNS = 8
"""Tasks side by side at most, so that figures stay legible where a page scales the chart down."""
CELL, ROW = 52, 40
"""Pixels of a cell of the heat map."""
LEFT, RIGHT, TOP = 124, 116, 28
"""Pixels for names, for outcomes and for the heads of columns."""
SLANTED = 7
"""Longer names stand slanted over their columns ..."""
HEAD = 18
"""... and are cut after so many characters."""
NARROWEST = 440
"""So that the words below it have room."""
LOUD = 0.10
"""A change of Recall@1 from which a cell has its full colour; a fixed scale makes reviews comparable."""
FAINTEST, STRONGEST = 0.10, 0.42
"""Opacity of the smallest and of the largest change; text on it keeps a contrast of at least 4.5."""

TILE, STEP = 58, 66
"""Pixels of a picture, and from one to the next."""
LINE, MORE = 94, 13
"""Pixels of a query with its neighbours, and of a second line of names."""
WIDE = 8
"""Characters that fit below a picture."""
PIXELATED = 40
"""Pictures of up to so many pixels show them; larger ones are scaled smoothly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A way to serve, as the heat map shows it.

    Attributes:
        name: In words.
        measured: Its figures; None where it cannot be served.
        outcome: What the gate made of it, in a word or two.
        marked: Whether it is what would be served.
    """

    name: str
    measured: Measurement | None
    outcome: str
    marked: bool


def heat_map(task: str, *, rows: Sequence[Row], tasks: Sequence[str], status_quo: Measurement | None) -> Chart:
    """Recall@1 of every way to serve, for each task and over all.

    Args:
        task: Whose candidate it is.
        rows: Ways to serve, from top to bottom.
        tasks: Those with gate queries, in order of arrival.
        status_quo: What differences are counted from; None for a first model.
    """
    shown = _most_telling(rows, tasks, status_quo)
    columns = (*shown, None)
    right = LEFT + CELL * len(columns)
    longest = min(max(map(len, shown), default=0), HEAD)
    first = TOP if longest <= SLANTED else TOP + 4.2 * longest
    bottom = first + ROW * len(rows)
    body = "".join(
        _head(name or "all", x=LEFT + CELL * (place + 0.5), y=first - 10, slanted=longest > SLANTED)
        for place, name in enumerate(columns)
    )
    for place, row in enumerate(rows):
        top = first + ROW * place
        body += text(LEFT - 14, top + ROW / 2 + 4, row.name, anchor="end", style="strong" if row.marked else "")
        body += text(right + 10, top + ROW / 2 + 4, row.outcome, style="strong" if row.marked else "")
        for column, name in enumerate(columns):
            body += _cell(row, name, status_quo, x=LEFT + CELL * column, y=top)
        if row.marked:
            body += _frame(top, width=right - LEFT)
    body += "".join(_key(bottom + 24, status_quo=status_quo is not None, left_out=len(tasks) - len(shown)))
    return Chart(
        name=f"compatibility-{task}",
        title=f"{shortened(task)}: Recall@1 on gate{', against the status quo' if status_quo else ''}",
        description="; ".join(_in_words(row, shown) for row in rows) + ".",
        width=max(right + RIGHT, NARROWEST),
        height=bottom + (38 if status_quo is None else 56) + (18 if len(tasks) > len(shown) else 0),
        body=body,
    )


def _frame(top: float, *, width: float) -> str:
    """Round the row that would be served, with an arrow at its name."""
    middle = top + ROW / 2
    corners = f"{LEFT - 8},{number(middle - 5)} {LEFT - 2},{number(middle)} {LEFT - 8},{number(middle + 5)}"
    box = f'x="{LEFT - 1}" y="{number(top - 1)}" width="{number(width + 2)}" height="{ROW + 2}" rx="5"'
    return f'<rect class="ring" {box}/><polygon class="strong" points="{corners}"/>'


def _recall(measured: Measurement | None, task: str | None) -> float | None:
    if measured is None:
        return None
    return measured.overall.recall_at_1 if task is None else measured.per_task.get(task)


def _most_telling(rows: Sequence[Row], tasks: Sequence[str], status_quo: Measurement | None) -> list[str]:
    """Return as many tasks as fit, in their order; of more, those that lose most under what would be served."""
    served = next((row.measured for row in rows if row.marked and row.measured is not status_quo), None)

    def change(task: str) -> float:
        return (_recall(served, task) or 0.0) - (_recall(status_quo, task) or 0.0)

    chosen = set(tasks[-1:]) | set(sorted(tasks[:-1], key=change)[: COLUMNS - 1])
    return [task for task in tasks if task in chosen]


def _head(name: str, *, x: float, y: float, slanted: bool) -> str:
    if not slanted:
        return text(x, y, name, anchor="middle")
    return f'<g transform="translate({number(x)} {number(y)}) rotate(-35)">{text(0, 0, shortened(name, HEAD))}</g>'


def _cell(row: Row, task: str | None, status_quo: Measurement | None, *, x: float, y: float) -> str:
    """Recall in percent; below it the change in points, which the colour repeats."""
    recall, before = _recall(row.measured, task), _recall(status_quo, task)
    middle = x + CELL / 2
    frame = f'x="{number(x + 1)}" y="{number(y + 1)}" width="{CELL - 2}" height="{ROW - 2}" rx="3"'
    if recall is None:
        return f'<rect {frame} fill="none" stroke="var(--rule)"/>' + text(
            middle, y + ROW / 2 + 4, DASH, anchor="middle"
        )
    if before is None or row.measured is status_quo:
        return f'<rect {frame} fill="var(--wash)"/>' + text(
            middle, y + ROW / 2 + 4, percent(recall), anchor="middle", style="strong"
        )
    change = recall - before
    fill, opacity = "var(--wash)", 1.0
    if abs(change) >= SAME:
        fill = "var(--good)" if change > 0 else "var(--bad)"
        opacity = FAINTEST + (STRONGEST - FAINTEST) * min(1.0, abs(change) / LOUD)
    return (
        f'<rect {frame} fill="{fill}" fill-opacity="{opacity:.2f}"/>'
        + text(middle, y + 17, percent(recall), anchor="middle", style="strong")
        + f'<text x="{number(middle)}" y="{number(y + 31)}" text-anchor="middle" '
        f'style="fill: var(--ink); font-size: 11px">{points(change)}</text>'
    )


def _key(y: float, *, status_quo: bool, left_out: int) -> Iterator[str]:
    """Yield what colours and figures mean, a line below the other."""
    if not status_quo:
        yield text(12, y, "in percent; there is no status quo to compare with")
        return
    x = 12.0
    for fill, opacity, words in (
        ("var(--bad)", STRONGEST, "worse"),
        ("var(--wash)", 1, "same"),
        ("var(--good)", STRONGEST, "better"),
    ):
        yield (
            f'<rect x="{number(x)}" y="{number(y - 10)}" width="12" height="12" rx="2" fill="{fill}" '
            f'fill-opacity="{opacity}" stroke="var(--rule)"/>'
        )
        yield text(x + 17, y, words)
        x += 34 + 7.2 * len(words)
    notes = f"in percent; below it the change in points, full colour from {percent(LOUD, digits=0)}"
    yield text(12, y + 18, notes)
    if left_out:
        yield text(12, y + 36, f"{count(left_out, 'task')} left out, where less is lost")


def _in_words(row: Row, tasks: Sequence[str]) -> str:
    if row.measured is None:
        return f"{row.name}: {row.outcome}"
    recalls = ", ".join(f"{task} {percent(_recall(row.measured, task))}" for task in tasks)
    return f"{row.name} ({row.outcome}): all {percent(_recall(row.measured, None))}, {recalls}"


# --- what search would lose -------------------------------------------------------------------------------------------


def flips(task: str, *, under: str, lost: Sequence[Example], of: int, thumbnails: Thumbnails) -> Chart:
    """Queries that hit today and would miss, with what they find today and what they would find.

    Args:
        task: Whose candidate it is.
        under: How it would be served, in words.
        lost: The queries, worst first.
        of: How many are lost in all.
        thumbnails: Of every item they show.
    """
    neighbours = max(len(each.before) for each in lost)
    gap, first = 22, 12
    before = first + STEP + gap
    after = before + STEP * neighbours + gap
    width, top = after + STEP * neighbours + 6, 32
    labels = {found.label for each in lost for found in (*each.before, *each.after)} | {each.label for each in lost}
    height = LINE + (MORE if any(len(_lines(label)) > 1 for label in labels) else 0)
    name = f"flips-{task}"
    body = sheet(f"{name}-sheet", thumbnails)
    for x, words in ((first, "query"), (before, "finds today"), (after, f"would find under {under}")):
        body += text(x, top - 12, words, style="strong")
    for place, each in enumerate(lost):
        y = top + height * place
        if place:
            body += line(first, y - 9, width - 12, y - 9, "grid")
        body += tile(each.item, name, thumbnails, x=first, y=y) + _label(each.label, x=first, y=y, strong=True)
        for start, found in ((before, each.before), (after, each.after)):
            for number_, neighbour in enumerate(found):
                body += _neighbour(neighbour, name, thumbnails, x=start + STEP * number_, y=y)
    y = top + height * len(lost) + 8
    body += _badge(first + 7, y - 4, hit=True) + text(first + 20, y, "same class as the query")
    body += _badge(before + 110, y - 4, hit=False) + text(before + 123, y, "another class")
    many = count(of, "query", "queries")
    if of > len(lost):
        many = f"{NUMBERS[len(lost)]} of {many}"
    return Chart(
        name=name,
        title=f"{shortened(task)}: {many} that search would lose, worst first, on gate",
        description="; ".join(
            f"class {quoted(each.label)} finds {_found(each.before)} today, {_found(each.after)} under {under}"
            for each in lost
        )
        + ".",
        width=width,
        height=y + 14,
        body=body,
    )


def _found(neighbours: Sequence[Neighbour]) -> str:
    return listed([quoted(each.label) for each in neighbours])


def sheet(name: str, thumbnails: Thumbnails) -> str:
    """Return every thumbnail, once; a tile shows a part of it."""
    side = thumbnails.edge + 2
    crisp = ' style="image-rendering: pixelated"' if thumbnails.edge <= PIXELATED else ""
    return (
        f'<defs><image id="{name}" href="{thumbnails.data_uri()}" width="{side * thumbnails.columns}" '
        f'height="{side * thumbnails.rows}"{crisp}/></defs>'
    )


def tile(item: int, name: str, thumbnails: Thumbnails, *, x: float, y: float) -> str:
    """Return an item's picture, a part of the sheet of a chart."""
    column, row = thumbnails.places()[item]
    edge = thumbnails.edge
    window = f"{column * (edge + 2) + 1} {row * (edge + 2) + 1} {edge} {edge}"
    return (
        f'<svg x="{number(x)}" y="{number(y)}" width="{TILE}" height="{TILE}" viewBox="{window}">'
        f'<use href="#{name}-sheet"/></svg>'
    )


def _label(label: str, *, x: float, y: float, strong: bool) -> str:
    """Return a class name below its picture, in two lines where it is long."""
    style = "strong" if strong else ""
    lines = "".join(
        text(x + TILE / 2, y + TILE + 15 + 13 * place, words, anchor="middle", style=style)
        for place, words in enumerate(_lines(label))
    )
    return f'<g style="font-size: 11px">{lines}</g>'


def _lines(label: str) -> tuple[str, ...]:
    if len(label) <= WIDE:
        return (label,)
    cut = next((at for at in range(WIDE, 2, -1) if label[at - 1] in " -_/"), WIDE)
    return label[:cut].rstrip(), shortened(label[cut:].lstrip(), WIDE)


def _neighbour(found: Neighbour, name: str, thumbnails: Thumbnails, *, x: float, y: float) -> str:
    """Return a picture in a frame: whole where it is of the query's class, dashed where not; a badge says the same."""
    colour, dashes = ("--good", "") if found.hit else ("--bad", ' stroke-dasharray="5 3"')
    return (
        tile(found.item, name, thumbnails, x=x, y=y)
        + f'<rect x="{number(x)}" y="{number(y)}" width="{TILE}" height="{TILE}" fill="none" stroke="var({colour})" '
        f'stroke-width="2.5"{dashes}><title>{escape(found.label)}</title></rect>'
        + _badge(x + TILE - 6, y + 6, hit=found.hit)
        + _label(found.label, x=x, y=y, strong=found.hit)
    )


def _badge(x: float, y: float, *, hit: bool) -> str:
    """Return a tick or a cross in a disc."""
    colour = "--good" if hit else "--bad"
    strokes = (
        [[(-3.2, 0.2), (-0.8, 2.8), (3.4, -2.6)]] if hit else [[(-2.6, -2.6), (2.6, 2.6)], [(-2.6, 2.6), (2.6, -2.6)]]
    )
    glyph = "".join(path([(x + dx, y + dy) for dx, dy in stroke], "stroke") for stroke in strokes)
    return (
        f'<g><circle cx="{number(x)}" cy="{number(y)}" r="7" fill="var({colour})" stroke="var(--card)"/>'
        f'<g fill="none" stroke="var(--card)" stroke-width="1.8">{glyph}</g></g>'
    )
