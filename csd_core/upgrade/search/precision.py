"""mAP@R of many ways to serve the same items; what it is stands in `csd_core.retrieval.metrics.map_at_r`."""

import numpy as np
import numpy.typing as npt

from csd_core.retrieval.metrics import TIE, precision_at_r
from csd_core.retrieval.parts import Ints
from csd_core.upgrade.search.layout import Layout
from csd_core.upgrade.search.nearest import NearestRows, visit_nearest

Doubles = npt.NDArray[np.float64]


def precisions(layout: Layout, asking: Ints, *, ways: range) -> Doubles:
    """Return (W, n) mAP@R of some queries over all rows; NaN where the gallery holds no right row.

    Args:
        layout: The views and cells; its scopes do not matter.
        asking: (n,) which of the queries.
        ways: Numbers of the W ways, from 0.
    """
    found = np.full((len(ways), len(asking)), np.nan)

    def visit(block: NearestRows) -> None:
        for way in ways:
            found[way, block.mine] = _of_way(layout, way, block)

    visit_nearest(layout, asking, visit)
    return found


def _of_way(layout: Layout, way: int, block: NearestRows) -> Doubles:
    """(B,) mAP@R under a way."""
    used, groups, maps = layout.used[way], layout.group[way], layout.maps[way]
    relevant = block.inside.sum(axis=1)
    r = int(relevant.max())
    right = np.take_along_axis(block.right, used[block.cell][None], axis=0)[0] - TIE
    if len(maps) == 1:
        wrong = block.largest_wrong(used, np.arange(len(used)), r)
        return precision_at_r(-np.sort(-right, axis=1)[:, :r], wrong, relevant)
    scored, wrongs = np.full(right.shape, -np.inf), []
    for number, score in enumerate(maps):
        here = block.inside & (groups[block.cell] == number)
        scored[here] = score(right[here])
        wrongs.append(score(block.largest_wrong(used, np.flatnonzero(groups == number), r)))
    return precision_at_r(-np.sort(-scored, axis=1)[:, :r], np.concatenate(wrongs, axis=1), relevant)
