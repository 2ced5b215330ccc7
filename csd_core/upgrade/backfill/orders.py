"""Which old rows a partial backfill embeds first. An order depends on the rows, never on how they lie in the gallery.

G rows, D dimensions.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from csd_core.params.upgrade import Order
from csd_core.retrieval.gallery import Gallery, Provenance
from csd_core.upgrade.mapping.adapters import Anchors

Ints = npt.NDArray[np.intp]

NEAREST = 5
"""Anchors whose residuals speak for a row."""

BLOCK_BYTES = 32 * 2**20
"""Similarities to anchors held at a time."""


def order_rows(order: Order, gallery: Gallery, *, anchors: Mapping[Provenance, Anchors], seed: int) -> Ints:
    """Return (G,) positions of the rows, most useful first; equals go by id.

    Args:
        order: random; class by class in random order; farthest from the mean of its class and space first; or the
            largest residual of the adapter on the nearest training images first (rows without an adapter before all).
        gallery: The rows.
        anchors: Of each provenance that has an adapter.
        seed: Of what is random.
    """
    rng = np.random.default_rng(seed)
    by_id = np.argsort(gallery.ids, kind="stable")  # sums run in this order too, so that no bit hangs on another
    match order:
        case "random":
            return rng.permutation(by_id)
        case "class":
            names, label = np.unique(gallery.labels, return_inverse=True)
            key = rng.permutation(len(names))[label].astype(np.float64)
        case "class-mean":
            key = _cosine_to_class_mean(gallery, by_id)
        case "residual":
            key = -_residuals(gallery, anchors, by_id)
    return by_id[np.argsort(key[by_id], kind="stable")]


def area_under(shares: npt.ArrayLike, recalls: npt.ArrayLike) -> float:
    """Area under recall against the share re-embedded, by the trapezoidal rule (FastFill, Jaeckle et al., 2023).

    Args:
        shares: Ascending, from 0 to 1.
        recalls: One for each share.
    """
    return float(np.trapezoid(np.asarray(recalls, np.float64), np.asarray(shares, np.float64)))


def _cosine_to_class_mean(gallery: Gallery, by_id: Ints) -> npt.NDArray[np.float64]:
    if not len(gallery):
        return np.empty(0)
    labels, label = np.unique(gallery.labels, return_inverse=True)
    space = np.unique(gallery.spaces, return_inverse=True)[1]
    kind = np.unique(space * len(labels) + label, return_inverse=True)[1]
    by_kind = by_id[np.argsort(kind[by_id], kind="stable")]
    starts = np.searchsorted(kind[by_kind], np.arange(kind.max() + 1))
    cosine = np.empty(len(gallery))
    for rows in np.split(by_kind, starts[1:]):  # one class at a time, for as doubles all rows would take much memory
        vectors = gallery.vectors[rows].astype(np.float64)
        total = np.add.reduce(vectors, axis=0)
        cosine[rows] = vectors @ (total / max(np.linalg.norm(total), np.finfo(np.float64).tiny))
    return np.round(cosine, 6)


def _residuals(gallery: Gallery, anchors: Mapping[Provenance, Anchors], by_id: Ints) -> npt.NDArray[np.float64]:
    found = np.full(len(gallery), np.inf)
    rank = np.empty(len(gallery), np.intp)
    rank[by_id] = np.arange(len(gallery))
    for provenance, unordered in gallery.groups().items():
        if provenance not in anchors:
            continue
        rows = unordered[np.argsort(rank[unordered])]
        known = anchors[provenance]
        count = min(NEAREST, len(known.residuals))
        step = max(1, BLOCK_BYTES // (4 * len(known.residuals)))
        for start in range(0, len(rows), step):
            some = rows[start : start + step]
            similar = gallery.vectors[some, : known.vectors.shape[1]] @ known.vectors.T
            nearest, row = np.empty((len(some), count), np.intp), np.arange(len(some))
            for number in range(count):
                nearest[:, number] = similar.argmax(axis=1)
                similar[row, nearest[:, number]] = -np.inf
            found[some] = known.residuals[nearest].mean(axis=1)
    return np.round(found, 6)
