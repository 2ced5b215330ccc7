"""How rows of several models compete in one ranking: each group of rows has a map from its cosines to scores.

A cosine is only comparable with cosines of the same space. Every map here is strictly increasing, so that the order
inside a group stays; `-inf`, which means that there is no such row, stays `-inf`.
"""

from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, PositiveFloat

from csd_core.records.stages import Digest, Record

Doubles = npt.NDArray[np.float64]

LIMIT = 1 - 1e-6
"""Beyond this cosine the inverse hyperbolic tangent, which ends at 1, continues as a straight line."""
_HIGHEST = float(np.arctanh(LIMIT))
_STEEPEST = 1 / (1 - LIMIT**2)


class Identity(Record):
    """The cosine is the score."""

    kind: Literal["identity"] = "identity"

    def __call__(self, cosines: npt.ArrayLike) -> Doubles:
        """Return scores in the shape of `cosines`."""
        return np.asarray(cosines, np.float64)

    def cosines(self, scores: npt.ArrayLike) -> Doubles:
        """Return the cosines that have these scores."""
        return np.asarray(scores, np.float64)


class Offset(Record):
    """score = cosine + offset."""

    kind: Literal["offset"] = "offset"
    offset: float

    def __call__(self, cosines: npt.ArrayLike) -> Doubles:
        """Return scores in the shape of `cosines`."""
        return np.asarray(cosines, np.float64) + self.offset

    def cosines(self, scores: npt.ArrayLike) -> Doubles:
        """Return the cosines that have these scores."""
        return np.asarray(scores, np.float64) - self.offset


class Logistic(Record):
    """score = slope artanh(cosine) + offset: the log-odds that a row is of the query's class."""

    kind: Literal["logistic"] = "logistic"
    slope: PositiveFloat
    offset: float

    def __call__(self, cosines: npt.ArrayLike) -> Doubles:
        """Return scores in the shape of `cosines`."""
        return self.slope * artanh(np.asarray(cosines, np.float64)) + self.offset

    def cosines(self, scores: npt.ArrayLike) -> Doubles:
        """Return the cosines that have these scores."""
        spread = (np.asarray(scores, np.float64) - self.offset) / self.slope
        inside = np.clip(spread, -_HIGHEST, _HIGHEST)
        return np.where(spread == inside, np.tanh(inside), np.sign(spread) * LIMIT + (spread - inside) / _STEEPEST)


class Quantile(Record):
    """The share of queries whose most similar wrong row is less similar, linear between some known cosines."""

    kind: Literal["quantile"] = "quantile"
    known: tuple[float, ...]
    """Cosines, rising; the first and the last lie beyond all that unit vectors can have."""
    shares: tuple[float, ...]
    """Their scores, rising from 0 to 1."""

    def __call__(self, cosines: npt.ArrayLike) -> Doubles:
        """Return scores in the shape of `cosines`."""
        given = np.asarray(cosines, np.float64)
        return np.where(given == -np.inf, -np.inf, np.interp(given, self.known, self.shares))

    def cosines(self, scores: npt.ArrayLike) -> Doubles:
        """Return the cosines that have these scores."""
        given = np.asarray(scores, np.float64)
        return np.where(given == -np.inf, -np.inf, np.interp(given, self.shares, self.known))


ScoreMap = Annotated[Identity | Offset | Logistic | Quantile, Field(discriminator="kind")]


def artanh(cosines: Doubles) -> Doubles:
    """Return artanh, continued as a straight line beyond LIMIT, for rounding leads there."""
    inside = np.clip(cosines, -LIMIT, LIMIT)
    return np.arctanh(inside) + (cosines - inside) * _STEEPEST


class GroupScoring(Record):
    """How rows of one provenance in a mixed gallery are searched: by which model's queries, and with which score."""

    embedded_by: Digest
    """The model that made the vectors."""
    adapters: str
    """Digests of what mapped them since, oldest first, joined by commas; empty for none."""
    query_model: Digest
    """The model that embeds a query for these rows."""
    dimension: int
    """Of that model's vectors; what a row has beyond it is zeros."""
    score: ScoreMap
