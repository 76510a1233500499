"""Histograms of durations with fixed buckets."""

from bisect import bisect_left
from dataclasses import dataclass, replace

# Upper bounds of the buckets; durations above the last one are counted apart.
BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0, 120.0, 300.0)


@dataclass(frozen=True, slots=True)
class BucketCounts:
    """Number of durations per bucket of BUCKETS_S, and their sum.

    A bucket counts the durations up to its bound and above the bound before it. The last count is
    of the durations above all bounds.
    """

    counts: tuple[int, ...] = (0,) * (len(BUCKETS_S) + 1)
    total_s: float = 0.0

    def plus(self, value_s: float) -> "BucketCounts":
        """Return the counts with one more duration."""
        index = bisect_left(BUCKETS_S, value_s)
        counts = (*self.counts[:index], self.counts[index] + 1, *self.counts[index + 1 :])
        return replace(self, counts=counts, total_s=self.total_s + value_s)


NO_DURATIONS = BucketCounts()
