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


def verdict(ours: Estimate, published: float, *, firm: bool) -> str:
    """`within 25 %`, `within 2x` or `off`; "unsure" where the interval reaches across the bound
    that the cell has to meet (25 % if the source is firm, 2x if not)."""
    word = _reach(ours.value, published)
    limit = FIRM_RATIO if firm else LOOSE_RATIO
    sides = {_inside(value, published, limit) for value in (ours.low, ours.high)}
    return word if sides == {_inside(ours.value, published, limit)} else f"{word}, unsure"


def _reach(value: float, published: float) -> str:
    if _inside(value, published, FIRM_RATIO):
        return "within 25 %"
    return "within 2x" if _inside(value, published, LOOSE_RATIO) else "off"


def _inside(value: float, published: float, ratio: float) -> bool:
    return published / ratio <= value <= published * ratio
