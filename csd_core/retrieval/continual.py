"""Figures over a whole line of upgrades, from matrices of recalls, and the recalls of each task that fill them.

C[t, k] is the recall of queries by generation t on rows by generation k (k <= t); a[t, i] that of task i's items after
stage t (i <= t). Both are lower triangular, (T, T), shares between 0 and 1; what is above the diagonal is never read.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from csd_core.retrieval.metrics import Recall

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compatibility:
    """Compatibility of T generations (Biondi et al., CL2R, TOMM 2023; CoReS, TPAMI 2023).

    Attributes:
        ac: Average compatibility, the share of the T(T-1)/2 pairs with C[t,k] > C[k,k]; None for T = 1.
        am: Average multi-model recall, the mean of the lower triangle with the diagonal.
        bc: Backward compatibility, 1/(T-1) sum_{i<T} (C[T,i] - C[i,i]); None for T = 1.
        fc: Forward compatibility, 1/(T-1) sum_{i>=2} (C[i,i-1] - C[i,i]); None for T = 1.
    """

    ac: float | None
    am: float
    bc: float | None
    fc: float | None


def compatibility(matrix: npt.ArrayLike) -> Compatibility:
    """Summarise the compatibility matrix C, (T, T) with T >= 1."""
    c = np.asarray(matrix, np.float64)
    size = len(c)
    own = np.diagonal(c)
    am = float(c[np.tril_indices(size)].mean())
    if size == 1:
        return Compatibility(ac=None, am=am, bc=None, fc=None)
    later, earlier = np.tril_indices(size, -1)
    return Compatibility(
        ac=float((c[later, earlier] > own[earlier]).mean()),
        am=am,
        bc=float((c[-1, :-1] - own[:-1]).mean()),
        fc=float((np.diagonal(c, -1) - own[1:]).mean()),
    )


def average(a: npt.ArrayLike) -> float:
    """Mean over tasks after the last stage."""
    return float(np.asarray(a, np.float64)[-1].mean())


def forgetting(a: npt.ArrayLike) -> list[float]:
    """For each task but the last, its best earlier figure less its last one (Chaudhry et al., ECCV 2018)."""
    values = np.asarray(a, np.float64)
    return [float(values[task:-1, task].max() - values[-1, task]) for task in range(len(values) - 1)]


def mean_forgetting(a: npt.ArrayLike) -> float | None:
    """Mean of `forgetting`; None for one task."""
    values = forgetting(a)
    return float(np.mean(values)) if values else None


def backward_transfer(a: npt.ArrayLike) -> float | None:
    """Mean over tasks but the last of the last figure less the first (Lopez-Paz & Ranzato, 2017); None for one task."""
    values = np.asarray(a, np.float64)
    return float((values[-1] - np.diagonal(values))[:-1].mean()) if len(values) > 1 else None


def plasticity(a: npt.ArrayLike) -> float:
    """Mean over tasks of the figure right after learning the task."""
    return float(np.diagonal(np.asarray(a, np.float64)).mean())


def recall_of_groups(recall: Recall, groups: npt.ArrayLike) -> dict[str, float]:
    """Recall@1 of the queries of each group, by name; a group none of whose queries counts has no figure."""
    names = np.asarray(groups)
    found = {str(name): recall.of(names == name) for name in np.unique(names)}
    return {name: some.at(1) for name, some in found.items() if some.queries}
