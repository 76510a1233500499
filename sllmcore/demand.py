"""Demand: the number of open requests of each model, observed and forecast.

Time is divided into windows of `window_s`. For each closed window the mean and the peak number of
open requests are kept. The forecast for the next window, t + 1, is that of WarmServe (arXiv
2512.09472):

    next = earlier(t + 1) + sum over d < depth of 2^-d (seen(t - d) - earlier(t - d)) / sum of 2^-d

where `seen(x)` is the count of window x and `earlier(x)` the count one period (a day) before window
x, 0 if there was none.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from math import fsum

from sllmcore.errors import UsageError


@dataclass(frozen=True, slots=True)
class OpenRequestCounts:
    """Mean and peak number of open requests of one model over one window."""

    mean: float
    peak: float


NO_REQUESTS = OpenRequestCounts(0.0, 0.0)


class _Window:
    """The current window of one model."""

    __slots__ = ("area", "num_open", "peak", "since_s")

    def __init__(self, num_open: int, now_s: float) -> None:
        self.num_open = num_open
        self.peak = num_open
        self.since_s = now_s
        self.area = 0.0  # request-seconds until `since_s`

    def change(self, by: int, now_s: float) -> None:
        self.area += self.num_open * (now_s - self.since_s)
        self.since_s = now_s
        self.num_open += by
        self.peak = max(self.peak, self.num_open)


class Demand:
    """The demand for all models. Call `advance` before any other call with the same time.

    Args:
        window_s: Length of a window.
        period_s: Time after which demand is expected to repeat; rounded to whole windows.
        depth: Number of closed windows that correct the forecast.

    Raises:
        UsageError: A window or the depth is not positive, or the period has no window.
    """

    def __init__(self, window_s: float, period_s: float, depth: int) -> None:
        if window_s <= 0 or depth < 1:
            raise UsageError(f"window_s > 0 and depth >= 1 must hold, got {window_s} and {depth}")
        self._period = round(period_s / window_s)
        if self._period < 1:
            raise UsageError(f"period_s must be at least window_s, {window_s}, got {period_s}")
        self._window_s = window_s
        self._depth = depth
        self._now_s = 0.0
        self._first: int | None = None  # number of the window of the first request
        self._current = 0
        self._open: dict[str, _Window] = {}  # models with requests in the current window
        # The closed windows in which any request was open, with their numbers; oldest first.
        self._closed: deque[tuple[int, dict[str, OpenRequestCounts]]] = deque()
        self._by_number: dict[int, dict[str, OpenRequestCounts]] = {}

    @property
    def window_began_at_s(self) -> float:
        """Start of the current window."""
        return self._current * self._window_s

    @property
    def window_ends_at_s(self) -> float:
        """End of the current window."""
        return (self._current + 1) * self._window_s

    @property
    def quiet_windows(self) -> int:
        """Number of windows since the last one with an open request; 0 if a request is open."""
        if self._open:
            return 0
        return self._current - self._closed[-1][0] if self._closed else self._current + 1

    def advance(self, now_s: float) -> bool:
        """Advance the clock to `now_s`. Return True if a window has ended since the last call."""
        self._now_s = now_s
        passed = now_s >= self.window_ends_at_s
        while self._open and now_s >= self.window_ends_at_s:
            self._close_window()
        if not self._open:
            self._current = max(self._current, int(now_s // self._window_s))
        return passed

    def opened(self, model: str) -> None:
        """Count a request for `model` that has arrived."""
        if self._first is None:
            self._first = self._current
        window = self._open.get(model)
        if window is None:
            window = self._open[model] = _Window(0, self._now_s)
        window.change(1, self._now_s)

    def closed(self, model: str) -> None:
        """Count a request for `model` that has ended."""
        self._open[model].change(-1, self._now_s)

    def forecast(self) -> Iterator[tuple[str, OpenRequestCounts]]:
        """Yield (model, forecast for the current window), sorted by model name."""
        if self._first is None:
            return
        depth = min(self._depth, self._current - self._first)
        before = [self._number(self._current - 1 - d) for d in range(depth)]
        earlier = [self._number(self._current - 1 - d - self._period) for d in range(depth)]
        same = self._number(self._current - self._period)
        names = {name for window in (same, *before, *earlier) for name in window}
        for name in sorted(names):
            base = same.get(name, NO_REQUESTS)
            steps = [
                (seen.get(name, NO_REQUESTS), was.get(name, NO_REQUESTS))
                for seen, was in zip(before, earlier, strict=True)
            ]
            yield (
                name,
                OpenRequestCounts(
                    max(0.0, base.mean + _weighted_mean([a.mean - b.mean for a, b in steps])),
                    max(0.0, base.peak + _weighted_mean([a.peak - b.peak for a, b in steps])),
                ),
            )

    def _number(self, number: int) -> dict[str, OpenRequestCounts]:
        """Return the counts of window `number` by model."""
        return self._by_number.get(number, {})

    def _close_window(self) -> None:
        """Keep the counts of the current window; open requests continue in the next window."""
        ends_at_s, kept, going = self.window_ends_at_s, {}, {}
        for model, window in self._open.items():
            window.change(0, ends_at_s)
            kept[model] = OpenRequestCounts(window.area / self._window_s, float(window.peak))
            if window.num_open:
                going[model] = _Window(window.num_open, ends_at_s)
        self._closed.append((self._current, kept))
        self._by_number[self._current] = kept
        oldest = self._current - self._period - self._depth
        while self._closed[0][0] < oldest:
            del self._by_number[self._closed.popleft()[0]]
        self._open = going
        self._current += 1


def _weighted_mean(steps: list[float]) -> float:
    """Weighted mean of `steps`, newest first, with the weights 1, 1/2, 1/4, ..."""
    if not steps:
        return 0.0
    weights = [2.0**-d for d in range(len(steps))]
    return fsum(w * step for w, step in zip(weights, steps, strict=True)) / fsum(weights)
