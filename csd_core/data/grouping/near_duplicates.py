"""Near-duplicates among images: the same picture resized, saved again, brightened or slightly cropped.

An image's perceptual hash (pHash, 64 bits, of `imagehash`) changes in few bits under such edits; two images are
near-duplicates if theirs differ in at most RADIUS. Pairs are found by multi-index hashing (Norouzi, Punjani & Fleet,
CVPR 2012): of RADIUS + 1 bands of a hash at least one is equal, so only images that share a band are compared.

The hash is that of the stored form, so it needs no file and belongs to the item as its id does.
"""

from collections.abc import Iterator
from itertools import pairwise

import imagehash
import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

BITS = 64
RADIUS = 6
"""Bits. Of photographs it finds what was resized or saved again, half of what was moved by a pixel, and no two that
differ; small symbols that a person tells apart may be near each other (docs/experiments.md)."""
_COMPARED = 1 << 22
"""Pairs compared at a time."""

Hashes = npt.NDArray[np.uint64]
Positions = npt.NDArray[np.intp]


def perceptual_hashes(images: npt.NDArray[np.uint8]) -> Hashes:
    """Return (N,) hashes of images (N, H, W, C), C 1 or 3."""
    hashes = np.empty(len(images), np.uint64)
    for row, image in enumerate(images):
        bits = imagehash.phash(Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)).hash
        hashes[row] = np.packbits(bits).view(">u8")[0]
    return hashes


def near_pairs(hashes: Hashes) -> npt.NDArray[np.intp]:
    """Return pairs of near-duplicates.

    Args:
        hashes: (N,).

    Returns:
        (P, 2) positions, ascending. Of images with one hash only neighbours are paired, and only the first of them with
        others, so that many copies make few pairs; what is connected is the same.
    """
    order = np.argsort(hashes, kind="stable")
    values, first = np.unique(hashes[order], return_index=True)
    equal = np.flatnonzero(hashes[order][1:] == hashes[order][:-1])
    close = np.concatenate([np.empty((0, 2), np.intp), *_close(values)])
    pairs = np.concatenate([np.stack([order[equal], order[equal + 1]], axis=1), order[first[close]]])
    return np.unique(np.sort(pairs, axis=1), axis=0)


def connected(count: int, pairs: npt.NDArray[np.intp]) -> Positions:
    """Return (count,) numbers of the groups that pairs (P, 2) of positions connect."""
    ones = np.ones(len(pairs), np.bool_)
    graph = coo_array((ones, (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1], np.intp)


def _close(values: Hashes) -> Iterator[Positions]:
    """Yield (p, 2) positions of distinct hashes that differ in few bits; a pair may come twice."""
    edges = np.linspace(0, BITS, RADIUS + 2).astype(int)
    for low, high in pairwise(edges):
        band = (values >> np.uint64(low)) & np.uint64((1 << int(high - low)) - 1)
        order = np.argsort(band, kind="stable")
        ends = np.flatnonzero(np.diff(band[order])) + 1
        for bucket in np.split(order, ends):
            step = max(1, _COMPARED // len(bucket))
            for start in range(0, len(bucket) - 1, step):
                some, rest = bucket[start : start + step], bucket[start + 1 :]
                differ = np.bitwise_count(values[some, None] ^ values[None, rest])
                left, right = np.nonzero(np.triu(differ <= RADIUS))
                yield np.stack([some[left], rest[right]], axis=1)
