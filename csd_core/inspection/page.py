"""The page of an inspection: one HTML file, no network. Every name from the folder is escaped by the template."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from PIL import Image

from csd_core.data.decode import decode
from csd_core.inspection.findings import Findings
from csd_core.report.charts.theme import PALETTE
from csd_core.report.charts.thumbnails import Thumbnails
from csd_core.report.page import SMOOTH_ABOVE, templates
from csd_core.system.atomic import write_text
from csd_core.system.names import printable

TEMPLATE = "inspection.html.jinja"
CLASSES, EXAMPLES, PAIRS, FILES = 60, 6, 24, 200
"""Classes on the contact sheet, images of each, near-duplicates side by side, unusable files."""
BUDGET = 3_000_000
"""Bytes of all images on the page before compression; more of them become smaller."""
LARGEST = 96
"""Pixels of an image on the page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A class on the contact sheet.

    Attributes:
        label: Its name.
        count: Its images.
        rows: Positions of some, evenly spread over its paths.
    """

    label: str
    count: int
    rows: tuple[int, ...]


class Pair(NamedTuple):
    """Two near-duplicates.

    Attributes:
        rows: Their positions.
        kind: What makes them worth a look.
    """

    rows: tuple[int, int]
    kind: str


def write_page(file: Path, findings: Findings, advice: Sequence[str]) -> None:
    """Write the page, whole or not at all; equal folders give equal bytes.

    Args:
        file: To write.
        findings: Of the folder.
        advice: Sentences on what to look at.
    """
    sheet, pairs = _sheet(findings), _pairs(findings)
    rows = sorted({row for shown in (*(each.rows for each in sheet), *(each.rows for each in pairs)) for row in shown})
    thumbnails = Thumbnails(items=tuple(rows), tiles=_tiles(findings, rows))
    page = templates(Path(__file__).parent).get_template(TEMPLATE)
    form = findings.form
    html = page.render(
        name=printable(findings.root.resolve().name),
        form=form,
        images=len(findings),
        classes=len(findings.classes),
        sheet=sheet,
        pairs=pairs,
        all_pairs=len(findings.pairs),
        in_groups=findings.in_groups,
        copies=len(findings.taken.duplicates) + len(findings.taken.conflicts),
        unusable=findings.unusable[:FILES],
        all_unusable=len(findings.unusable),
        advice=advice,
        paths=findings.taken.paths,
        labels=findings.taken.labels,
        places=thumbnails.places(),
        thumbnails=thumbnails,
        sprite=thumbnails.data_uri(),
        smooth=thumbnails.edge > SMOOTH_ABOVE,
        style=Markup(PALETTE),  # noqa: S704 - a constant
    )
    write_text(file, html)


def _sheet(findings: Findings) -> list[Shown]:
    """Return the first classes in natural order, with some images of each."""
    rows_of: dict[str, list[int]] = {}
    for row, label in enumerate(findings.taken.labels):
        rows_of.setdefault(label, []).append(row)
    shown = []
    for label, count in list(findings.classes.items())[:CLASSES]:
        places = np.linspace(0, count - 1, min(count, EXAMPLES)).round().astype(int).tolist()
        shown.append(Shown(label=label, count=count, rows=tuple(rows_of[label][place] for place in places)))
    return shown


def _pairs(findings: Findings) -> list[Pair]:
    """Return some near-duplicates, those across classes first."""
    kinds = {
        "another class": findings.across_classes,
        "train and test": findings.across_sets,
        "one class": findings.pairs,
    }
    found: dict[tuple[int, int], str] = {}
    for kind, pairs in kinds.items():
        for left, right in pairs[:PAIRS].tolist():
            found.setdefault((left, right), kind)
    return [Pair(rows, kind) for rows, kind in list(found.items())[:PAIRS]]


def _tiles(findings: Findings, rows: Sequence[int]) -> npt.NDArray[np.uint8]:
    """Return (M, E, E, C) images in the stored form, made smaller where there are many."""
    form = findings.form
    edge = min(form.size, LARGEST, math.isqrt(BUDGET // (form.channels * len(rows))))
    tiles = np.empty((len(rows), edge, edge, form.channels), np.uint8)
    for number, image in enumerate(_decoded(findings, rows)):
        picture = Image.fromarray(image if form.channels > 1 else image[..., 0])
        tiles[number] = np.asarray(picture.resize((edge, edge), Image.Resampling.LANCZOS)).reshape(tiles.shape[1:])
    return tiles


def _decoded(findings: Findings, rows: Sequence[int]) -> Iterator[npt.NDArray[np.uint8]]:
    for row in rows:
        yield decode(findings.root / findings.taken.paths[row], findings.form)
