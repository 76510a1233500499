"""Confidence intervals for the mean of a correlated series, by batch means."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

T_999 = 3.558  # Student's t, 39 degrees of freedom, two-sided 99.9 %
NUM_BATCHES = 40


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval of 99.9 %."""

    mean: float
    half_width: float

    def holds(self, value: float) -> bool:
        return abs(value - self.mean) <= self.half_width


def interval(values: Sequence[float]) -> Interval:
    """Return the interval for the mean, from 40 batches that are long enough to be independent."""
    size = len(values) // NUM_BATCHES
    means = [fmean(values[i * size : (i + 1) * size]) for i in range(NUM_BATCHES)]
    return Interval(fmean(means), T_999 * stdev(means) / NUM_BATCHES**0.5)
