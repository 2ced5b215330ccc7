"""scikit-learn's digits: 1,797 grey images of 8x8 pixels, from the UCI set of Alpaydin & Kaynak (1998)."""

import numpy as np

from csd_core.data.sources.arrays import ArraySource, Part, verify

CHECKSUM = "a19cb3d96bba7deace8ee5a513a6eb7bad0403d528f00bf4d351b6a7a55baa91"
"""sha256 of pixels (0..255) and labels, one byte each."""
_LEVELS = 16


def open_digits(limit_per_class: int | None, *, checksum: str = CHECKSUM) -> ArraySource:
    """Return the set as scikit-learn carries it; it has no test set of its own.

    Raises:
        DataError: if it is not the published one.
    """
    from sklearn.datasets import load_digits  # noqa: PLC0415 - takes a second to import

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / _LEVELS)).astype(np.uint8)[..., None]
    numbers = bunch.target.astype(np.uint8)
    verify(images.tobytes() + numbers.tobytes(), what="scikit-learn's digits", expected=checksum)
    part = Part(name="digits", source_split=None, images=images, labels=numbers.astype(np.str_))
    return ArraySource(kind="digits", parts=(part.first_per_class(limit_per_class),))
