"""How contenders are drawn: colour and shape say which one; the reference has the colour of retrieval."""

from dataclasses import dataclass

from csd_core.comparison.results.figures import Comparison
from csd_core.report.charts.theme import SERIES_COLOURS

WIDTH = 460
"""Pixels of a picture."""
NAME = 20
"""Characters of a contender beside a picture."""
SHAPES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How a contender is drawn.

    Attributes:
        stroke: Class of its lines.
        fill: Class of its marks.
        shape: Of its marks.
    """

    stroke: str
    fill: str
    shape: int


def looks(comparison: Comparison) -> dict[str, Look]:
    """Return the look of every contender, the same in all pictures."""
    found = {}
    others = [name for name in comparison.methods if name != comparison.reference]
    for place, name in enumerate(others):
        colour = place % SERIES_COLOURS
        found[name] = Look(
            stroke=f"s{colour}", fill=f"fill-s{colour}", shape=(1 + place + place // SERIES_COLOURS) % SHAPES
        )
    found[comparison.reference] = Look(stroke="retrieval", fill="fill-retrieval", shape=0)
    return found
