"""The pictures of upgrades: old items in the stored vectors, and compatibility matrices side by side."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from csd_core.comparison.report.styles import NAME, WIDTH
from csd_core.comparison.results.columns import over_upgrades
from csd_core.comparison.results.figures import Comparison, Measured
from csd_core.comparison.results.intervals import Spread, spread
from csd_core.report.charts.svg import Axes, Chart, line, marker, path, shortened, text, ticks
from csd_core.report.charts.tasks import shade, triangle
from csd_core.report.narrative import percent

Matrix = npt.NDArray[np.float64]

ROW = 24
"""Pixels from one contender to the next."""


def old_items(comparison: Comparison, profile: str) -> Chart | None:
    """Old items in the stored vectors, over upgrades: status quo (a stroke), as they are (hollow), mapped (filled)."""
    rows: dict[str, list[Spread | None]] = {}
    for contender in comparison.contenders(profile):
        cells = list(comparison.runs(profile, contender).values())
        rows[contender] = [
            spread([value for cell in cells if (value := over_upgrades(name)(cell)) is not None])
            for name in ("gate_self", "gate_cross", "gate_adapted")
        ]
    rows = {name: each for name, each in rows.items() if each[1] is not None}
    if not rows:
        return None
    means = [each.mean for values in rows.values() for each in values if each is not None]
    marks = ticks(min(*means, max(means) - 0.01), max(means))
    height = 52.0 + ROW * len(rows)
    axes = Axes(left=150, right=340, top=8, bottom=height - 42, first=marks[0], last=marks[-1], low=0, high=1)
    body = "".join(
        line(axes.x(mark), axes.top, axes.x(mark), axes.bottom, "grid")
        + text(axes.x(mark), axes.bottom + 17, f"{100 * mark:g}", anchor="middle")
        for mark in marks
    )
    words = []
    for place, (name, (quo, raw, adapted)) in enumerate(rows.items()):
        y = axes.top + ROW * (place + 0.5)
        strong = "strong" if name == comparison.reference else ""
        body += text(axes.left - 12, y + 4, shortened(name, NAME), anchor="end", style=strong)
        shown = [f"raw {percent(raw.mean)}"] if raw else []
        if raw and adapted:
            body += path([(axes.x(raw.mean), y), (axes.x(adapted.mean), y)], "line thin retrieval", opacity=0.5)
            shown.append(f"adapted {percent(adapted.mean)}")
        if quo:
            body += line(axes.x(quo.mean), y - 8, axes.x(quo.mean), y + 8, "zero")
            shown.append(f"status quo {percent(quo.mean)}")
        told = f"{name}: {', '.join(shown)} %"
        words.append(told)
        if raw:
            body += marker(axes.x(raw.mean), y, 0, "hollow", told)
        if adapted:
            body += marker(axes.x(adapted.mean), y, 1, "fill-retrieval", told)
        figures = " → ".join(percent(each.mean) for each in (raw, adapted) if each)
        body += text(axes.right + 14, y + 4, figures, style=strong)
    x = 12.0
    for shape, style, what in ((0, "hollow", "stored vectors as they are"), (1, "fill-retrieval", "mapped")):
        body += marker(x, axes.bottom + 31, shape, style, what) + text(x + 9, axes.bottom + 35, what)
        x += 30 + 6.4 * len(what)
    body += line(x, axes.bottom + 25, x, axes.bottom + 37, "zero") + text(x + 8, axes.bottom + 35, "status quo")
    return Chart(
        name=f"{profile}-old-items",
        title=f"{profile}: Recall@1 of old items, mean over upgrades",
        description=f"Recall@1 in percent of old items in the stored vectors. {'; '.join(words)}.",
        width=WIDTH,
        height=height,
        body=body,
    )


# --- compatibility ----------------------------------------------------------------------------------------------------


def matrices(comparison: Comparison, profile: str) -> Iterator[tuple[str, Chart]]:
    """Yield a compatibility matrix for each contender, mean over seeds, all tinted on one scale."""
    found: dict[str, tuple[tuple[str, ...], Matrix, Matrix]] = {}
    for contender in comparison.contenders(profile):
        cells = list(comparison.runs(profile, contender).values())
        names = max((cell.generations() for cell in cells), key=len)
        if names:
            each = np.stack([_cross(cell, names) for cell in cells if cell.generations() == names])
            found[contender] = (names, *_mean_and_share(each))
    if not found:
        return
    tint = shade(np.concatenate([mean[~np.isnan(mean)] for _, mean, _ in found.values()]))
    for contender, (names, mean, share) in found.items():
        yield (
            contender,
            triangle(
                mean,
                names,
                name=f"{profile}-{contender}-compatibility",
                title=f"{profile}, {contender}: Recall@1, queries by row on vectors by column",
                description=f"Compatibility matrix of {contender} on {profile}, mean over seeds. {_told(mean, names)}.",
                tint=tint,
                sign=_signs(share),
            ),
        )


def _cross(cell: Measured, names: Sequence[str]) -> Matrix:
    """C of one cell, (G, G), NaN above the diagonal."""
    rows = [[cell.at("compatibility", after, on) for on in names] for after in names]
    return np.array([[np.nan if value is None else value for value in row] for row in rows], np.float64)


def _mean_and_share(crosses: Matrix) -> tuple[Matrix, Matrix]:
    """Map (S, G, G) of S seeds to their mean, and the share of them with C[t,k] > C[k,k], both (G, G)."""
    own = np.diagonal(crosses, axis1=1, axis2=2)
    return crosses.mean(axis=0), (crosses > own[:, None, :]).mean(axis=0)


def _signs(share: Matrix) -> Callable[[int, int], str]:
    return lambda row, column: {0.0: "✗", 1.0: "✓"}.get(float(share[row, column]), "~")


def _told(mean: Matrix, names: Sequence[str]) -> str:
    rows = (
        f"{name}: " + ", ".join(f"{percent(mean[row, column])} on {names[column]}" for column in range(row + 1))
        for row, name in enumerate(names)
    )
    return "; ".join(rows)
