"""A chart of the most frequent confusions: queries beside the rows of another class that they find."""

from collections.abc import Sequence

from csd_core.report.charts.reviews import TILE, sheet, tile
from csd_core.report.charts.svg import Chart, path, shortened, text
from csd_core.report.charts.thumbnails import Thumbnails
from csd_core.report.examples import Mistake
from csd_core.report.narrative import count, quoted

SHOWN = 6
"""Confusions at most."""
PAIR, ARROW, MARGIN = 176, 22, 12
"""Pixels from one pair to the next, of an arrow, and around."""
LINE = 74
"""Pixels of a confusion."""
NAME = 18
"""Characters of a class name that fit beside the pictures."""


def confusions(task: str, *, under: str, mistakes: Sequence[Mistake], thumbnails: Thumbnails) -> Chart:
    """Draw some confusions, each with examples.

    Args:
        task: Whose candidate it is.
        under: How it would be served, in words.
        mistakes: The most frequent first, at least one.
        thumbnails: Of every item they show.
    """
    shown = mistakes[:SHOWN]
    pairs = max(len(each.pairs) for each in shown)
    words_at, top = MARGIN + PAIR * pairs, 34
    name = f"confusions-{task}"
    body = sheet(f"{name}-sheet", thumbnails)
    for place in range(pairs):
        body += text(MARGIN + PAIR * place, top - 12, "query", style="strong")
        body += text(MARGIN + PAIR * place + TILE + ARROW, top - 12, "finds", style="strong")
    for line, mistake in enumerate(shown):
        y = top + LINE * line
        for place, (query, found) in enumerate(mistake.pairs):
            x, middle = MARGIN + PAIR * place, y + TILE / 2
            body += tile(query, name, thumbnails, x=x, y=y)
            body += tile(found, name, thumbnails, x=x + TILE + ARROW, y=y)
            start, end = x + TILE + 4, x + TILE + ARROW - 4
            arrow = path([(start, middle), (end, middle)], "stroke")
            arrow += path([(end - 4, middle - 4), (end, middle), (end - 4, middle + 4)], "stroke")
            body += f'<g fill="none" stroke="var(--soft)" stroke-width="1.5">{arrow}</g>'
        body += text(words_at, y + 24, f"{quoted(shortened(mistake.asked, NAME))} found as", style="strong")
        body += text(words_at, y + 40, quoted(shortened(mistake.found, NAME)), style="strong")
        body += text(words_at, y + 56, count(mistake.times, "time"))
    return Chart(
        name=name,
        title=f"{shortened(task)}: the most frequent confusions under {under}, on gate",
        description="; ".join(
            f"class {quoted(each.asked)} found as {quoted(each.found)} {count(each.times, 'time')}" for each in shown
        )
        + ".",
        width=words_at + 230,
        height=top + LINE * len(shown) + 6,
        body=body,
    )
