"""Maps from stored vectors to the candidate's space, fitted on pairs of vectors: no label is needed, and no network.

M images that both models embed, D_old and D dimensions: `source` (M, D_old) is how the old rows' models (and their
adapters) embed them, `target` (M, D) how the candidate does. All linear maps follow from a few sums over the pairs,
which are made once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from csd_core.params.upgrade import AdapterMethod, AdapterParams
from csd_core.upgrade.mapping.fitted import Fitted, Floats
from csd_core.upgrade.sampling import evenly

Doubles = npt.NDArray[np.float64]

TINY = float(np.finfo(np.float32).tiny)

FLOOR = 1e-10
"""Smallest share of the largest eigenvalue that is told from rounding."""

CCA_PENALTY = 0.001
"""Added to both sides' mean variance before whitening."""

STEPS = 100
"""Most steps to the map that is nearly orthogonal."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Proposal:
    """A map that is on offer.

    Attributes:
        method: How it was fitted.
        strength: What it was fitted with: a penalty, a dimension, a tolerance, a temperature; None for none.
        centred: Whether means were removed before.
        fitted: The map.
    """

    method: AdapterMethod
    strength: float | None = None
    centred: bool = False
    fitted: Fitted


class PairSums:
    """Sums over pairs of vectors, with the linear maps that follow from them.

    Where means are removed, a map takes the source's mean to the target's and is scaled to keep the target's spread:
    otherwise what the map cannot predict would draw mapped rows nearer to the mean than rows of the candidate are.

    Attributes:
        count: M.
        means: (D_old,) and (D,) that were removed; None for none.
        gram: (D_old, D_old) X^T X.
        cross: (D_old, D) X^T Y.
        own: (D, D) Y^T Y.
    """

    def __init__(
        self, *, count: int, means: tuple[Doubles, Doubles] | None, gram: Doubles, cross: Doubles, own: Doubles
    ) -> None:
        self.count, self.means, self.gram, self.cross, self.own = count, means, gram, cross, own

    @classmethod
    def of(cls, source: Floats, target: Floats) -> Self:
        """Return the sums over (M, D_old) and (M, D) vectors of the same images."""
        x, y = source.astype(np.float64), target.astype(np.float64)
        return cls(count=len(x), means=None, gram=x.T @ x, cross=x.T @ y, own=y.T @ y)

    def centred(self, source: Floats, target: Floats) -> "PairSums":
        """Return the sums after the means of the same vectors are removed."""
        x, y = source.mean(axis=0, dtype=np.float64), target.mean(axis=0, dtype=np.float64)
        return PairSums(
            count=self.count,
            means=(x, y),
            gram=self.gram - self.count * np.outer(x, x),
            cross=self.cross - self.count * np.outer(x, y),
            own=self.own - self.count * np.outer(y, y),
        )

    @cached_property
    def _eigen(self) -> tuple[Doubles, Doubles]:
        return _eigen(self.gram)

    @cached_property
    def _own_eigen(self) -> tuple[Doubles, Doubles]:
        return _eigen(self.own)

    @cached_property
    def _rotation(self) -> Doubles:
        left, _, right = np.linalg.svd(self.cross, full_matrices=False)
        rotation: Doubles = left @ right
        return rotation

    def procrustes(self) -> Fitted:
        """Return the rotation that turns source nearest to target, U V^T of the cross product's SVD.

        Between different dimensions it embeds the smaller space in the larger one, or projects.
        """
        return self._fitted(self._rotation)

    def ridge(self, penalty: float) -> Fitted:
        """Return min_A |X A - Y|^2 + lambda |A|^2, lambda = penalty times the mean square of a column of X."""
        values, axes = self._eigen
        shrunk = values + max(penalty * values.mean(), FLOOR * values[-1], TINY)
        return self._fitted(axes @ ((axes.T @ self.cross) / shrunk[:, None]))

    def cca(self, dimension: int) -> Fitted:
        """Return the map that takes each canonical direction of the source to its partner in the target.

        Args:
            dimension: Pairs of directions that are taken, those with the largest correlation; the others are dropped.
        """
        (values, axes), (own_values, own_axes) = self._eigen, self._own_eigen
        spread, own_spread = (np.sqrt(each + max(CCA_PENALTY * each.mean(), TINY)) for each in (values, own_values))
        left, _, right = np.linalg.svd(
            (axes.T @ self.cross @ own_axes) / spread[:, None] / own_spread, full_matrices=False
        )
        paired = left[:, :dimension] @ right[:dimension]  # in both sides' whitened axes
        return self._fitted(axes @ (paired / spread[:, None] * own_spread) @ own_axes.T)

    def orthogonal(self, tolerances: list[float]) -> Iterator[tuple[float, Fitted]]:
        """Yield maps that are nearly rotations, as far as a tolerance allows (arXiv 2509.16664, NeurIPS 2025).

        They minimise mean |x W - y|^2 + max(0, |W^T W - I| - tolerance |I|)^2, squared so that quasi-Newton steps
        meet no kink. Each starts from the one before, the first from the rotation.

        Args:
            tolerances: Ascending shares of the length of I.
        """
        # in the axes of X^T X the first term needs no product of matrices; W^T W is the same there
        values, axes = self._eigen
        cross = axes.T @ self.cross / self.count
        weights = values[:, None] / self.count
        wide = cross.shape[1] > cross.shape[0]
        identity = np.eye(min(cross.shape))
        start = axes.T @ self._rotation

        def loss(flat: Doubles, limit: float) -> tuple[float, Doubles]:
            w = flat.reshape(cross.shape)
            off = (w @ w.T if wide else w.T @ w) - identity
            length = float(np.linalg.norm(off))
            weighted = weights * w
            value, slope = float(np.vdot(w, weighted - 2 * cross)), 2 * (weighted - cross)
            if length > limit:
                value += (length - limit) ** 2
                slope += 4 * (length - limit) / length * (off @ w if wide else w @ off)
            return value, slope.ravel()

        for tolerance in tolerances:
            limit = tolerance * len(identity) ** 0.5
            found = minimize(
                loss, start.ravel(), args=(limit,), jac=True, method="L-BFGS-B", options={"maxiter": STEPS}
            )
            start = found.x.reshape(cross.shape)
            yield tolerance, self._fitted(axes @ start, keep_spread=False)

    def _fitted(self, linear: Doubles, *, keep_spread: bool = True) -> Fitted:
        if self.means is None:
            return Fitted(linear=linear.astype(np.float32))
        if keep_spread:
            linear = linear * (np.trace(self.own) / max(np.vdot(linear, self.gram @ linear), TINY)) ** 0.5
        return Fitted(
            linear=linear.astype(np.float32), offset=(self.means[1] - self.means[0] @ linear).astype(np.float32)
        )


def _eigen(gram: Doubles) -> tuple[Doubles, Doubles]:
    values, axes = np.linalg.eigh(gram)
    return np.maximum(values, 0), axes


def fit_drift(source: Floats, target: Floats, *, temperature: float, anchors: int) -> Fitted:
    """Move a vector as its neighbours among the images moved (SDC, Yu et al., CVPR 2020).

    g + sum_i softmax_i(cos(g, x_i) / temperature) (y_i - x_i)

    Args:
        source: (M, D) unit vectors.
        target: (M, D) unit vectors of the same images.
        temperature: How far a neighbour's move reaches.
        anchors: At most so many images are neighbours, evenly drawn.
    """
    some = evenly(len(source), anchors)
    return Fitted(
        linear=np.eye(source.shape[1], dtype=np.float32),
        neighbours=(source[some].T / np.float32(temperature), target[some] - source[some]),
    )


def linear_maps(source: Floats, target: Floats, settings: AdapterParams) -> Iterator[Proposal]:
    """Yield every linear map on offer, within a method the simpler one first.

    Args:
        source: (M, D_old) unit vectors.
        target: (M, D) unit vectors of the same images.
        settings: The strengths on offer.
    """
    plain = PairSums.of(source, target)
    centred = plain.centred(source, target)
    for sums in (plain, centred):
        affine = sums is centred
        yield Proposal(method="procrustes", centred=affine, fitted=sums.procrustes())
        for penalty in sorted(settings.ridge, reverse=True):
            yield Proposal(method="ridge", strength=penalty, centred=affine, fitted=sums.ridge(penalty))
    for dimension in sorted({min(each, *plain.cross.shape) for each in settings.cca}):
        yield Proposal(method="cca", strength=dimension, centred=True, fitted=centred.cca(dimension))
    for tolerance, fitted in centred.orthogonal(sorted(settings.orthogonal)):
        yield Proposal(method="orthogonal", strength=tolerance, centred=True, fitted=fitted)


def local_maps(source: Floats, target: Floats, settings: AdapterParams) -> Iterator[Proposal]:
    """Yield every local map on offer, the farthest-reaching first; none between different dimensions."""
    if source.shape[1] == target.shape[1]:
        for temperature in sorted(settings.drift, reverse=True):
            fitted = fit_drift(source, target, temperature=temperature, anchors=settings.drift_anchors)
            yield Proposal(method="drift", strength=temperature, fitted=fitted)
