"""Drawing in SVG: documents, axes, labels that keep clear of each other. Coordinates are pixels, y grows downwards."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from csd_core.report.charts.theme import CHART, PALETTE

LABEL_CHARACTERS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A drawing that can stand alone or inside a page.

    Attributes:
        name: Unique on a page; also its file name.
        title: What it shows.
        description: The same for who cannot see it, with the figures that matter.
        width: In pixels, as drawn.
        height: In pixels, as drawn.
        body: SVG elements.
    """

    name: str
    title: str
    description: str
    width: float
    height: float
    body: str

    def inline(self) -> str:
        """For a page that brings the styles."""
        return self._document("")

    def standalone(self) -> str:
        """Return a file of its own, with its title drawn and its styles inside."""
        head = 34
        style = f"<style>{PALETTE}{CHART}</style>"
        back = f'<rect width="{number(self.width)}" height="{number(self.height + head)}" fill="var(--card)"/>'
        caption = f'<text class="caption" x="12" y="22">{escape(self.title)}</text>'
        framed = Chart(
            name=self.name,
            title=self.title,
            description=self.description,
            width=self.width,
            height=self.height + head,
            body=f'{back}{caption}<g transform="translate(0 {head})">{self.body}</g>',
        )
        return '<?xml version="1.0" encoding="UTF-8"?>\n' + framed._document(style) + "\n"

    def _document(self, style: str) -> str:
        width, height = number(self.width), number(self.height)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" viewBox="0 0 {width} {height}" width="{width}" '
            f'height="{height}" role="img" aria-labelledby="{self.name}-title {self.name}-desc">'
            f'<title id="{self.name}-title">{escape(self.title)}</title>'
            f'<desc id="{self.name}-desc">{escape(self.description)}</desc>{style}{self.body}</svg>'
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Axes:
    """A plot's frame: from data to pixels.

    Attributes:
        left: Pixel of x = first.
        right: Pixel of x = last.
        top: Pixel of y = high.
        bottom: Pixel of y = low.
        first: Leftmost value.
        last: Rightmost value.
        low: Lowest value.
        high: Highest value.
    """

    left: float
    right: float
    top: float
    bottom: float
    first: float
    last: float
    low: float
    high: float

    def x(self, value: float) -> float:
        """Pixel of a value on the horizontal axis; the middle where the axis has one value."""
        if self.last == self.first:
            return (self.left + self.right) / 2
        return self.left + (value - self.first) / (self.last - self.first) * (self.right - self.left)

    def y(self, value: float) -> float:
        """Pixel of a value on the vertical axis."""
        return self.bottom - (value - self.low) / (self.high - self.low) * (self.bottom - self.top)

    def horizontal(self, ticks: Sequence[float], labels: Sequence[str]) -> str:
        """Grid lines with their labels to the left."""
        return "".join(
            line(self.left, self.y(tick), self.right, self.y(tick), "grid")
            + text(self.left - 8, self.y(tick) + 4, label, anchor="end")
            for tick, label in zip(ticks, labels, strict=True)
        )


def number(value: float) -> str:
    """Return a coordinate, to a tenth of a pixel."""
    return f"{round(value, 1) + 0.0:g}"


def text(x: float, y: float, content: str, *, anchor: str = "start", style: str = "") -> str:
    """Return a line of text."""
    attribute = f' class="{style}"' if style else ""
    return f'<text{attribute} x="{number(x)}" y="{number(y)}" text-anchor="{anchor}">{escape(content)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    """Return a straight line."""
    return f'<line class="{style}" x1="{number(x1)}" y1="{number(y1)}" x2="{number(x2)}" y2="{number(y2)}"/>'


def path(places: Sequence[tuple[float, float]], style: str, *, opacity: float = 1.0) -> str:
    """Return a line through some places."""
    steps = "L".join(f"{number(x)} {number(y)}" for x, y in places)
    faded = f' stroke-opacity="{opacity:g}"' if opacity < 1 else ""
    return f'<path class="{style}" d="M{steps}"{faded}/>'


def box(
    x: float, y: float, width: float, height: float, style: str, tip: str, *, radius: float = 0, opacity: float = 1.0
) -> str:
    """Return a rectangle, such as a bar or a cell; `tip` shows under the pointer."""
    corners = f' rx="{number(radius)}"' if radius else ""
    faded = f' fill-opacity="{opacity:.2f}"' if opacity < 1 else ""
    return (
        f'<rect class="{style}"{faded} x="{number(x)}" y="{number(y)}" width="{number(width)}" '
        f'height="{number(height)}"{corners}><title>{escape(tip)}</title></rect>'
    )


def marker(x: float, y: float, shape: int, style: str, tip: str) -> str:
    """Return a small mark; its shape tells series apart where colour does not. `tip` shows under the pointer."""
    r = 3.6
    match shape % 4:
        case 0:
            drawn = f'<circle class="mark {style}" cx="{number(x)}" cy="{number(y)}" r="{r}">'
            end = "</circle>"
        case 1:
            drawn = (
                f'<rect class="mark {style}" x="{number(x - r)}" y="{number(y - r)}" width="{2 * r}" height="{2 * r}">'
            )
            end = "</rect>"
        case corner:
            ring = [(0, -1.3), (1.25, 1), (-1.25, 1)] if corner == 2 else [(0, -1.4), (1.4, 0), (0, 1.4), (-1.4, 0)]  # noqa: PLR2004
            corners = " ".join(f"{number(x + r * dx)},{number(y + r * dy)}" for dx, dy in ring)
            drawn, end = f'<polygon class="mark {style}" points="{corners}">', "</polygon>"
    return f"{drawn}<title>{escape(tip)}</title>{end}"


def shortened(name: str, characters: int = LABEL_CHARACTERS) -> str:
    """Return a name that fits beside a chart."""
    return name if len(name) <= characters else name[: characters - 1] + "…"


def ticks(low: float, high: float, *, about: int = 4) -> list[float]:
    """Round numbers that cover an interval, its ends included in their span."""
    span = high - low or abs(high) or 1.0
    raw = span / about
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * place, 12) for place in range(first, max(last, first + 1) + 1)]


def spread(wanted: Sequence[float], *, gap: float, low: float, high: float) -> list[float]:
    """Places near the wanted ones, at least `gap` apart in the same order, between low and high where they fit."""
    order = sorted(range(len(wanted)), key=lambda each: (wanted[each], each))
    places = [0.0] * len(wanted)
    reached = low - gap
    for each in order:
        reached = places[each] = max(wanted[each], reached + gap)
    ceiling = high + gap
    for each in reversed(order):
        ceiling = places[each] = min(places[each], ceiling - gap)
    return places
