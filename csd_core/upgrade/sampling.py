"""Some of many, evenly spread."""

import numpy as np

from csd_core.retrieval.metrics import Ints


def evenly(count: int, most: int) -> Ints:
    """Return (min(count, most),) ascending positions below `count`, evenly spread."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(np.intp) if count else np.empty(0, np.intp)
