"""Means, standard deviations and paired differences over seeds; n values."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import stdtrit

CONFIDENCE = 0.95

DIGITS = 9
"""Of a difference: figures come to a millionth, so what is below is arithmetic and no sign of anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Values of one kind.

    Attributes:
        mean: Of n values.
        deviation: Sample standard deviation (n - 1 in the denominator); None for one value.
        count: n.
    """

    mean: float
    deviation: float | None
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Paired differences.

    Attributes:
        mean: Of n differences.
        low: Lower end of the t-interval of the mean; None for one pair.
        high: Upper end.
        pairs: n.
        positive: Differences above zero.
    """

    mean: float
    low: float | None
    high: float | None
    pairs: int
    positive: int

    @property
    def decided(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def spread(values: Sequence[float]) -> Spread | None:
    """Mean and sample standard deviation; None without values."""
    if not values:
        return None
    mean = math.fsum(values) / len(values)
    return Spread(mean=mean, deviation=_deviation(values, mean), count=len(values))


def difference(pairs: Sequence[tuple[float, float]]) -> Difference | None:
    """Mean of first less second with its two-sided t-interval at CONFIDENCE; None without pairs.

    The differences of n pairs are taken as independent and about normal: mean -+ t(n-1) s / sqrt(n).
    """
    if not pairs:
        return None
    values = [round(first - second, DIGITS) for first, second in pairs]
    count = len(values)
    mean = math.fsum(values) / count
    deviation = _deviation(values, mean)
    half = None
    if deviation is not None:
        half = float(stdtrit(count - 1, (1 + CONFIDENCE) / 2)) * deviation / math.sqrt(count)
    return Difference(
        mean=mean,
        low=None if half is None else mean - half,
        high=None if half is None else mean + half,
        pairs=count,
        positive=sum(value > 0 for value in values),
    )


def _deviation(values: Sequence[float], mean: float) -> float | None:
    if len(values) == 1:
        return None
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
