"""Means, standard deviations and paired differences over seeds; n values."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from statistics import fmean, stdev
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import stdtrit

CONFIDENCE = 0.95

DIGITS = 9
"""Of a difference: figures come to a millionth, so what is below is arithmetic and no sign of anything."""
ROUNDING = 10**-DIGITS


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Mean and sample standard deviation (n - 1 in the denominator; None for one value), as the pictures need them."""

    mean: float
    deviation: float | None


def spread(values: Sequence[float]) -> Spread | None:
    """Return mean and deviation; None without values."""
    return Spread(mean=fmean(values), deviation=stdev(values) if len(values) > 1 else None) if values else None


def mean(values: pd.Series) -> float:
    """Return the mean of what is not missing, by an exact sum: its last digit depends on no order and no processor."""
    known = values.dropna()
    return fmean(known) if len(known) else math.nan


def deviation(values: pd.Series) -> float:
    """Return the sample standard deviation of what is not missing; NaN for one value."""
    known = values.dropna()
    return stdev(known) if len(known) > 1 else math.nan


class Difference(NamedTuple):
    """Paired differences; what cannot be computed from so few pairs is NaN.

    Attributes:
        mean: Of n differences.
        half: Half the t-interval of the mean: mean -+ t(n-1) s / sqrt(n) for independent, about normal differences.
        pairs: n.
        positive: Differences above zero.
    """

    mean: float
    half: float
    pairs: int
    positive: int

    @property
    def decided(self) -> bool:
        """Whether the interval leaves zero out."""
        return abs(self.mean) > self.half

    def small(self, words: Callable[[float], str]) -> str:
        """Return the interval, if there is one, and how many differences are above zero."""
        ends = "" if math.isnan(self.half) else f"{words(self.mean - self.half)} to {words(self.mean + self.half)}; "
        return f"{ends}{self.positive}/{self.pairs}"


class Ratio(NamedTuple):
    """A ratio of two sums; NaN where the lower sum is not above zero, its interval where there are too few terms.

    Attributes:
        value: The ratio.
        half: Half its interval.
    """

    value: float
    half: float


def ratio_of_sums(upper: pd.Series, lower: pd.Series) -> Ratio:
    """Return sum(upper) / sum(lower) of n pairs, and its two-sided t-interval at CONFIDENCE by the jackknife.

    Ratios are not averaged, for one whose lower value is near zero would outweigh all others. With r_i the ratio
    without pair i, the variance is (n - 1) / n sum (r_i - mean r)^2 (Efron, "The Jackknife", 1982, ch. 3).
    """
    pairs, total = len(lower), math.fsum(lower)
    if total <= ROUNDING:
        return Ratio(math.nan, math.nan)
    value = math.fsum(upper) / total
    left = total - lower
    if pairs < 2 or (left <= ROUNDING).any():  # noqa: PLR2004 - one pair has no spread
        return Ratio(value, math.nan)
    without = (math.fsum(upper) - upper) / left
    variance = (pairs - 1) / pairs * math.fsum((without - mean(without)) ** 2)
    return Ratio(value, float(stdtrit(pairs - 1, (1 + CONFIDENCE) / 2)) * math.sqrt(variance))


def compare(differences: pd.DataFrame) -> dict[tuple[str, str], Difference]:
    """Return (contender, figure) -> mean and two-sided t-interval at CONFIDENCE of its differences that are known."""
    rounded = differences.map(partial(round, ndigits=DIGITS))
    grouped = rounded.groupby("contender")
    means, pairs, positive = grouped.agg(mean), grouped.count(), (rounded > 0).groupby("contender").sum()
    half = stdtrit(pairs - 1, (1 + CONFIDENCE) / 2) * grouped.agg(deviation) / np.sqrt(pairs)
    return {
        place: Difference(*(each.loc[place].item() for each in (means, half, pairs, positive)))
        for place in product(means.index, means.columns)
    }
