"""Statistics of a trace, gathered in one pass and in memory that does not grow with its rows.

Index of dispersion: variance / mean of the counts in whole windows, 1 for a Poisson process.
Autocorrelation: of the counts per minute. Both are exact (a count per second is kept), and so are
the quantiles of lengths (a count per length). Quantiles of gaps have 200 bins a decade (1 %).
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from traces.errors import TraceError
from traces.rows import TraceRow

DISPERSION_WINDOWS_S = (1, 10, 60, 600)
CORRELATION_LAGS = (1, 2, 5)
QUANTILES = (0.5, 0.9, 0.99)
MAX_SPAN_S = 1000 * 86_400  # a count per second takes 350 MB

_CHUNK_ROWS = 16_384
_BINS_PER_DECADE, _LOW_EXPONENT, _HIGH_EXPONENT = 200, -9, 8

_AT_S, _SOURCE = attrgetter("at_s"), attrgetter("source")


class GapStatistics:
    """Moments of the gaps between arrivals (Chan's merge of chunk moments) and a histogram."""

    def __init__(self) -> None:
        self.num = 0
        self.mean_s = 0.0
        self._squares = 0.0
        self._last_s: float | None = None
        self._zero = 0
        self._bins = np.zeros((_HIGH_EXPONENT - _LOW_EXPONENT) * _BINS_PER_DECADE, np.int64)

    def add(self, times: NDArray[np.float64]) -> None:
        """Add the next arrivals, `(n,)`, none before those of earlier calls."""
        gaps = np.diff(times) if self._last_s is None else np.diff(times, prepend=self._last_s)
        self._last_s = float(times[-1])
        if not len(gaps):
            return
        mean, num = float(np.mean(gaps)), len(gaps)
        shift, total = mean - self.mean_s, self.num + num
        self._squares += float(np.sum((gaps - mean) ** 2)) + shift**2 * self.num * num / total
        self.mean_s += shift * num / total
        self.num = total
        positive = gaps[gaps > 0]
        self._zero += num - len(positive)
        places = (np.log10(positive) - _LOW_EXPONENT) * _BINS_PER_DECADE
        places = np.clip(places, 0, len(self._bins) - 1).astype(np.int64)
        self._bins += np.bincount(places, minlength=len(self._bins))

    @property
    def cv(self) -> float | None:
        """Coefficient of variation; None for fewer than two gaps or a mean of 0."""
        if self.num < 2 or self.mean_s == 0:
            return None
        return math.sqrt(self._squares / self.num) / self.mean_s

    def quantile_s(self, q: float) -> float:
        """Return a quantile of the gaps in seconds, within 1 %."""
        above = q * self.num - self._zero
        if above <= 0:
            return 0.0
        place = int(np.searchsorted(np.cumsum(self._bins), above))
        return float(10 ** (_LOW_EXPONENT + (place + 0.5) / _BINS_PER_DECADE))

    def survival(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return gap lengths in seconds, and the fraction of gaps above each."""
        used = np.flatnonzero(self._bins)
        edges = 10.0 ** (_LOW_EXPONENT + (used + 1) / _BINS_PER_DECADE)
        return edges, 1.0 - (self._zero + np.cumsum(self._bins)[used]) / max(1, self.num)


class SecondCounts:
    """Arrivals per second since the first."""

    def __init__(self) -> None:
        self._counts = np.zeros(4096, np.int32)
        self.first_s: float | None = None
        self.last_s = 0.0

    def add(self, times: NDArray[np.float64]) -> None:
        """Add the next arrivals, `(n,)`.

        Raises:
            TraceError: The trace spans more than `MAX_SPAN_S`.
        """
        if self.first_s is None:
            self.first_s = float(times[0])
        self.last_s = float(times[-1])
        if self.span_s > MAX_SPAN_S:
            raise TraceError(
                f"the trace spans {self.span_s:.0f} s, more than {MAX_SPAN_S} s: check its times"
            )
        seconds = (times - self.first_s).astype(np.int64)
        while seconds[-1] >= len(self._counts):
            self._counts = np.concatenate((self._counts, np.zeros_like(self._counts)))
        added = np.bincount(seconds - seconds[0]).astype(np.int32)
        self._counts[seconds[0] : seconds[-1] + 1] += added

    @property
    def span_s(self) -> float:
        """Seconds from the first arrival to the last."""
        return 0.0 if self.first_s is None else self.last_s - self.first_s

    def per_window(self, window_s: int) -> NDArray[np.float64]:
        """Return the counts of the whole windows, `(floor(span / window),)`."""
        num = int(self.span_s // window_s)
        whole = self._counts[: num * window_s].reshape(num, window_s)
        sums: NDArray[np.float64] = whole.sum(axis=1).astype(np.float64)
        return sums


class LengthCounts:
    """The number of requests of each length in tokens."""

    def __init__(self) -> None:
        self.counts = np.zeros(1, np.int64)

    def add(self, lengths: Sequence[int]) -> None:
        """Add lengths in tokens."""
        added = np.bincount(np.array(lengths, np.int64), minlength=len(self.counts))
        added[: len(self.counts)] += self.counts
        self.counts = added

    @property
    def num(self) -> int:
        """Number of lengths."""
        return int(self.counts.sum())

    @property
    def mean(self) -> float:
        """Mean length in tokens."""
        return float(np.dot(self.counts, np.arange(len(self.counts)))) / self.num

    @property
    def largest(self) -> int:
        """Largest length in tokens."""
        return int(np.flatnonzero(self.counts)[-1])

    def quantile(self, q: float) -> float:
        """Return a quantile, linear between order statistics (numpy's default)."""
        place = q * (self.num - 1)
        low = math.floor(place)
        ends = np.searchsorted(np.cumsum(self.counts), [low, math.ceil(place)], side="right")
        return float(ends[0] + (ends[1] - ends[0]) * (place - low))


@dataclass(slots=True)
class TraceStatistics:
    """All statistics of a trace."""

    gaps: GapStatistics
    seconds: SecondCounts
    inputs: LengthCounts
    outputs: LengthCounts
    calls: Counter[str]
    num_rows: int = 0


def gathered(rows: Iterable[TraceRow]) -> TraceStatistics:
    """Return the statistics of `rows`, which must be in order of time."""
    found = TraceStatistics(
        GapStatistics(), SecondCounts(), LengthCounts(), LengthCounts(), Counter()
    )
    iterator = iter(rows)
    while chunk := list(islice(iterator, _CHUNK_ROWS)):
        times = np.fromiter(map(_AT_S, chunk), np.float64, len(chunk))
        found.num_rows += len(chunk)
        found.gaps.add(times)
        found.seconds.add(times)
        found.calls.update(map(_SOURCE, chunk))
        found.inputs.add([row.input_tokens for row in chunk if row.input_tokens is not None])
        found.outputs.add([row.output_tokens for row in chunk if row.output_tokens is not None])
    return found


def index_of_dispersion(counts: NDArray[np.float64]) -> float | None:
    """Return sample variance / mean; None for fewer than two windows or no arrivals."""
    if len(counts) < 2 or not counts.any():
        return None
    return float(np.var(counts, ddof=1) / np.mean(counts))


def autocorrelation(counts: NDArray[np.float64], lag: int) -> float | None:
    """Return the autocorrelation of counts in successive windows; None if few or all equal."""
    if len(counts) <= lag + 1:
        return None
    centred = counts - np.mean(counts)
    power = float(np.dot(centred, centred))
    return float(np.dot(centred[:-lag], centred[lag:])) / power if power else None
