"""Medians over seeds, and their comparison with published numbers.

The 95 % interval of a median is distribution-free: between the k-th smallest and the k-th largest
of n values, with the largest k for which P(Binomial(n, 1/2) < k) <= 0.025. For n = 10, k is 2.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from statistics import median

FIRM_RATIO = 1.25  # a published number from a firm source
LOOSE_RATIO = 2.0  # any other
AGREES, DIFFERS, UNDECIDED = "agrees", "differs", "undecided"


@dataclass(frozen=True, slots=True)
class Estimate:
    """A median over seeds and its 95 % interval."""

    value: float
    low: float
    high: float


def estimate(values: Sequence[float]) -> Estimate:
    """Return the median of values and its interval; for fewer than 6 values, their range.

    Raises:
        ValueError: There are no values.
    """
    if not values:
        raise ValueError("there is no median of no values")
    ranked = sorted(values)
    rank = max(1, _rank(len(ranked)))
    return Estimate(median(ranked), ranked[rank - 1], ranked[-rank])


def _rank(num: int) -> int:
    below, rank = 0.0, 0
    while rank < num:
        below += comb(num, rank) / 2**num
        if below > 0.025:
            break
        rank += 1
    return rank


@dataclass(frozen=True, slots=True)
class Band:
    """The range in which our number agrees with a published one."""

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


def ratio_band(published: float, ratio: float) -> Band:
    """Return the band from published / ratio to published * ratio."""
    return Band(published / ratio, published * ratio)


def reach(value: float, published: float) -> str:
    """Return the distance class of a number, whatever its interval and source."""
    if value in ratio_band(published, FIRM_RATIO):
        return "within 25 %"
    return "within 2x" if value in ratio_band(published, LOOSE_RATIO) else "off"


def verdict(values: Sequence[float], band: Band) -> str:
    """Return `agrees` if the 95 % interval is in the band, `differs` if it is outside.

    Else, if the interval contains an end of the band, return `undecided`; likewise if the medians
    of the even and of the odd values disagree, since other seeds could change the verdict.
    """
    ours = estimate(values)
    if ours.low in band and ours.high in band:
        agrees = True
    elif ours.high < band.low or ours.low > band.high:
        agrees = False
    else:
        return UNDECIDED
    halves = [half for half in (values[0::2], values[1::2]) if half]
    if any((median(half) in band) is not agrees for half in halves):
        return UNDECIDED
    return AGREES if agrees else DIFFERS
