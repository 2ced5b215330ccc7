"""Colours and chart styles, shared by the page and the stand-alone plots; light and dark."""

PALETTE = """
:root {
  color-scheme: light dark;
  --paper: #faf8f4; --card: #ffffff; --ink: #1e2126; --soft: #5b6069; --rule: #e3ded4;
  --retrieval: #0d6a80; --classification: #b14d12; --good: #17703f; --bad: #b0302a; --wash: #f1ede5;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14161a; --card: #1b1e24; --ink: #e9e7e2; --soft: #a6aab2; --rule: #31353d;
    --retrieval: #62c3d8; --classification: #f2a06b; --good: #68cf9a; --bad: #f3948a; --wash: #22262d;
  }
}
"""

CHART = """
.chart { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
.chart text { fill: var(--soft); font-variant-numeric: tabular-nums; }
.chart .strong { fill: var(--ink); font-weight: 600; }
.chart .caption { fill: var(--ink); font-size: 13px; font-weight: 600; }
.chart .grid { stroke: var(--rule); stroke-width: 1; }
.chart .zero { stroke: var(--soft); stroke-width: 1; }
.chart .lead { stroke: var(--soft); stroke-width: .75; opacity: .55; fill: none; }
.chart .line { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
.chart .thin { stroke-width: 1.2; }
.chart .mark { stroke: var(--card); stroke-width: 1; }
.chart .retrieval { stroke: var(--retrieval); }
.chart .classification { stroke: var(--classification); }
.chart .fill-retrieval { fill: var(--retrieval); }
.chart .fill-classification { fill: var(--classification); }
.chart .pale { fill: color-mix(in srgb, var(--retrieval) 45%, var(--card)); }
.chart .hollow { fill: var(--card); stroke: var(--retrieval); stroke-width: 1.6; }
.chart .bar.hollow { stroke-width: 1; }
.chart .neutral { fill: var(--soft); }
.chart .halo { paint-order: stroke; stroke: var(--card); stroke-width: 4px; stroke-linejoin: round; }
.chart .ring { fill: none; stroke: var(--ink); stroke-width: 1.4; }
.chart .quo { stroke: var(--soft); stroke-width: 1.4; stroke-dasharray: 5 4; }
.chart .stage { stroke: var(--soft); stroke-width: 1; stroke-dasharray: 2 3; opacity: .7; }
"""

_LIGHT = ("#b14d12", "#6b4fa0", "#2f7d32", "#a3256b", "#7a5c00", "#1f5fbf", "#5b6069", "#b0302a")
_DARK = ("#f2a06b", "#b79cf0", "#7ccf83", "#f08cc0", "#d9b84a", "#84b0ff", "#a6aab2", "#f3948a")
SERIES_COLOURS = len(_LIGHT)


def _variables(colours: tuple[str, ...]) -> str:
    return ":root { " + " ".join(f"--s{place}: {colour};" for place, colour in enumerate(colours)) + " }\n"


SERIES = f"\n{_variables(_LIGHT)}@media (prefers-color-scheme: dark) {{ {_variables(_DARK)}}}\n" + "".join(
    f".chart .s{place} {{ stroke: var(--s{place}); }} .chart .fill-s{place} {{ fill: var(--s{place}); }}\n"
    for place in range(SERIES_COLOURS)
)
"""Colours of series that are no measures, such as the contenders of a comparison."""
