"""Medians over seeds, and how they compare with a published number.

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
    """Of one measure over its seeds. Fewer than 6 values span no 95 %: their whole range."""
    if not values:
        raise ValueError("a median of no values")
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
    """Where a number of ours agrees with a published one."""

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


def ratio_band(published: float, ratio: float) -> Band:
    """No more than that many times as much, or as little."""
    return Band(published / ratio, published * ratio)


def reach(value: float, published: float) -> str:
    """How near a number is, whatever its interval and the quality of the source."""
    if value in ratio_band(published, FIRM_RATIO):
        return "within 25 %"
    return "within 2x" if value in ratio_band(published, LOOSE_RATIO) else "off"


def verdict(values: Sequence[float], band: Band) -> str:
    """`agrees` if the 95 % interval lies in the band, `differs` if it lies outside of it.

    `undecided` if it reaches across an end of the band, or if the medians of the even and of the
    odd values do not lie on the same side: then other seeds would say something else.
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
