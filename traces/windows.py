"""Traces of counts per source and window, and the conversion of counts to arrivals.

A count n gives exactly n arrivals inside its window of W seconds:

    uniform      n independent uniform times
    exponential  n exponential gaps, scaled to sum to W, rotated by a uniform part of the first
    equidistant  (i + 1/2) W / n

A source with its own gap law (ServeGen: Gamma or Weibull of a given shape) uses that law in place
of the exponential; the scaling cancels the scale of the law. The scaling of gaps to the window is
that of the loader of vHive's invitro.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Literal, assert_never

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from traces.account import Account
from traces.rows import TraceRow
from traces.seeding import generator

MinuteGaps = Literal["uniform", "exponential", "equidistant"]


class GapLaw(IntEnum):
    """The distribution of the gaps inside a window."""

    AS_ASKED = 0  # by the MinuteGaps of the caller
    GAMMA = 1
    WEIBULL = 2


# Token counts of n requests of a source from `at_s` on: (generator, at_s, n) -> input, output.
LengthDraw = Callable[[Generator, float, int], "tuple[NDArray[np.int64], NDArray[np.int64]] | None"]


@dataclass(frozen=True, slots=True)
class WindowCounts:
    """The counts of a trace: an entry for each source and window with arrivals.

    The five arrays have the same length and are sorted by window, then by source.

    Args:
        sources: Names of the sources, in the order of their first appearance.
        window_s: Length of a window in seconds.
        num_windows: Number of windows, with empty ones at the end.
        window, source: Indices of each entry, int32.
        count: Arrivals of each entry, int64.
        law, shape: Gap law of each entry (int8) and its shape (float64, unused for AS_ASKED).
        lengths: Draws of token counts, for the sources that have lengths.
    """

    sources: tuple[str, ...]
    window_s: float
    num_windows: int
    window: NDArray[np.int32]
    source: NDArray[np.int32]
    count: NDArray[np.int64]
    law: NDArray[np.int8]
    shape: NDArray[np.float64]
    lengths: Mapping[str, LengthDraw]

    @property
    def num_arrivals(self) -> int:
        """Sum of all counts."""
        return int(self.count.sum())

    @property
    def uniform(self) -> bool:
        """True if no entry has a gap law of its own."""
        return not self.law.any()

    @property
    def span_s(self) -> float:
        """Seconds that the windows cover."""
        return self.num_windows * self.window_s

    def called(self) -> tuple[str, ...]:
        """Return the sources with an arrival, in the order of their first windows."""
        present, first = np.unique(self.source, return_index=True)
        return tuple(self.sources[index] for index in present[np.argsort(first)].tolist())

    def cut(self, start_s: float, until_s: float | None) -> "WindowCounts":
        """Return the windows that overlap [start_s, until_s), numbered from 0."""
        first = int(start_s // self.window_s)
        last = self.num_windows
        if until_s is not None:
            last = min(last, math.ceil(until_s / self.window_s))
        low, high = np.searchsorted(self.window, [first, last]).tolist()
        return replace(
            self,
            num_windows=max(0, last - first),
            window=self.window[low:high] - np.int32(first),
            source=self.source[low:high],
            count=self.count[low:high],
            law=self.law[low:high],
            shape=self.shape[low:high],
        )

    def since(self, first: int) -> "WindowCounts":
        """Return the counts with window `first` as window 0; none may be before it."""
        if first == 0:
            return self
        since_s = first * self.window_s
        return replace(
            self,
            num_windows=self.num_windows - first,
            window=self.window - np.int32(first),
            lengths={name: _later(draw, since_s) for name, draw in self.lengths.items()},
        )

    def entries(self, window: int) -> slice:
        """Return the slice of the arrays with the entries of a window."""
        low, high = np.searchsorted(self.window, [window, window + 1])
        return slice(int(low), int(high))


def _later(draw: LengthDraw, since_s: float) -> LengthDraw:
    """Return a draw with a clock that starts `since_s` after that of `draw`."""
    return lambda rng, at_s, num: draw(rng, at_s + since_s, num)


def window_rows(
    counts: WindowCounts, gaps: MinuteGaps, seed: int, account: Account, keep: float = 1.0
) -> Iterator[TraceRow]:
    """Yield all arrivals in order of time; one window is in memory at a time.

    Args:
        keep: Probability of keeping an arrival. The counts are thinned (binomially) before they
            are spread, which for uniform times equals dropping single arrivals, and makes a day
            of 900 million invocations possible.
    """
    kept = counts.count if keep >= 1.0 else _thinned(counts, keep, seed)
    streams: dict[int, Generator] = {}
    for window in range(counts.num_windows):
        span = counts.entries(window)
        dropped = int(counts.count[span].sum() - kept[span].sum())
        account.rows_read += dropped
        account.thinned += dropped
        rows: list[TraceRow] = []
        for entry in (span.start + np.flatnonzero(kept[span])).tolist():
            index = int(counts.source[entry])
            if index not in streams:
                streams[index] = generator(seed, "window", counts.sources[index])
            rows += _entry_rows(counts, entry, int(kept[entry]), gaps, rng=streams[index])
        rows.sort(key=lambda row: row.at_s)
        for row in rows:
            account.rows_read += 1
            yield row


def _thinned(counts: WindowCounts, keep: float, seed: int) -> NDArray[np.int64]:
    """Return the counts after keeping each arrival with probability `keep`.

    Each source has its own random stream.
    """
    kept = np.zeros_like(counts.count)
    by_source = np.argsort(counts.source, kind="stable")
    present, first, sizes = np.unique(
        counts.source[by_source], return_index=True, return_counts=True
    )
    for index, low, num in zip(present.tolist(), first.tolist(), sizes.tolist(), strict=True):
        entries = by_source[low : low + num]
        rng = generator(seed, "thinning", counts.sources[index])
        kept[entries] = rng.binomial(counts.count[entries], keep)
    return kept


def _entry_rows(
    counts: WindowCounts, entry: int, num: int, gaps: MinuteGaps, *, rng: Generator
) -> list[TraceRow]:
    name = counts.sources[int(counts.source[entry])]
    start_s = int(counts.window[entry]) * counts.window_s
    law, shape = GapLaw(int(counts.law[entry])), float(counts.shape[entry])
    times = start_s + offsets(num, counts.window_s, law, shape, gaps, rng=rng)
    draw = counts.lengths.get(name)
    pairs = None if draw is None else draw(rng, start_s, num)
    if pairs is None:
        return [TraceRow(at_s, name, None, None) for at_s in times.tolist()]
    inputs, outputs = pairs[0].tolist(), pairs[1].tolist()
    return [
        TraceRow(at_s, name, inp, out)
        for at_s, inp, out in zip(times.tolist(), inputs, outputs, strict=True)
    ]


def offsets(
    num: int, window_s: float, law: GapLaw, shape: float, gaps: MinuteGaps, *, rng: Generator
) -> NDArray[np.float64]:
    """Return the offsets of `num` arrivals in a window: `(num,)`, sorted, in [0, window_s)."""
    match law:
        case GapLaw.GAMMA:
            return _scaled(rng.gamma(shape, size=num), window_s, rng)
        case GapLaw.WEIBULL:
            return _scaled(rng.weibull(shape, size=num), window_s, rng)
        case GapLaw.AS_ASKED:
            pass
        case _:
            assert_never(law)
    match gaps:
        case "uniform":
            return np.sort(rng.random(num)) * window_s
        case "exponential":
            return _scaled(rng.standard_exponential(num), window_s, rng)
        case "equidistant":
            return np.arange(0.5, num) * (window_s / num)
        case _:
            assert_never(gaps)


def _scaled(gaps: NDArray[np.float64], window_s: float, rng: Generator) -> NDArray[np.float64]:
    total = float(np.sum(gaps))
    if total <= 0.0:  # all gaps underflowed (a shape near 0): all arrivals at once
        return np.full(gaps.shape, rng.random() * window_s)
    ends: NDArray[np.float64] = np.cumsum(gaps) - gaps[0] * rng.random()
    return np.clip(ends * (window_s / total), 0.0, float(np.nextafter(window_s, 0.0)))
