"""Demand, observed and foreseen: how many requests of each model are open at once.

Time is cut into windows of `window_s`. Of each window that has passed the mean and the peak number
of open requests are kept; those of the next one, t + 1, are foreseen as in WarmServe (arXiv
2512.09472):

    next = earlier(t + 1) + sum over d < depth of 2^-d (seen(t - d) - earlier(t - d)) / sum of 2^-d

where `earlier(x)` is what was seen a whole period (a day) before window x, 0 if nothing was.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from math import fsum

from sllmcore.errors import UsageError


@dataclass(frozen=True, slots=True)
class OpenRequestCounts:
    """Requests of one model that are open at once, over one window."""

    mean: float
    peak: float


NO_REQUESTS = OpenRequestCounts(0.0, 0.0)


class _Window:
    """The window under way, of one model."""

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
    """What was seen of all models. `advance` must tell the time before anything else happens then.

    Args:
        window_s: Length of a window.
        period_s: After which demand is expected to repeat; a whole number of windows.
        depth: Windows that the correction looks back at.
    """

    def __init__(self, window_s: float, period_s: float, depth: int) -> None:
        if window_s <= 0 or depth < 1:
            raise UsageError(f"window_s > 0 and depth >= 1 must hold, got {window_s} and {depth}")
        self._period = round(period_s / window_s)
        if self._period < 1:
            raise UsageError(f"a period of {period_s} s has no window of {window_s} s")
        self._window_s = window_s
        self._depth = depth
        self._now_s = 0.0
        self._first: int | None = None  # the window in which anything was first seen
        self._current = 0
        self._open: dict[str, _Window] = {}  # models with requests in the current window
        # Of windows that have passed, those in which anything was open, by number.
        self._closed: deque[tuple[int, dict[str, OpenRequestCounts]]] = deque()
        self._by_number: dict[int, dict[str, OpenRequestCounts]] = {}

    @property
    def window_began_at_s(self) -> float:
        return self._current * self._window_s

    @property
    def window_ends_at_s(self) -> float:
        return (self._current + 1) * self._window_s

    @property
    def quiet_windows(self) -> int:
        """How many windows have passed since one in which a request was open; 0: one is."""
        if self._open:
            return 0
        return self._current - self._closed[-1][0] if self._closed else self._current + 1

    def advance(self, now_s: float) -> bool:
        """It is `now_s`. Whether a window has passed since the last call."""
        self._now_s = now_s
        passed = now_s >= self.window_ends_at_s
        while self._open and now_s >= self.window_ends_at_s:
            self._close_window()
        if not self._open:
            self._current = max(self._current, int(now_s // self._window_s))
        return passed

    def opened(self, model: str) -> None:
        """A request for `model` has come."""
        if self._first is None:
            self._first = self._current
        window = self._open.get(model)
        if window is None:
            window = self._open[model] = _Window(0, self._now_s)
        window.change(1, self._now_s)

    def closed(self, model: str) -> None:
        """One has ended."""
        self._open[model].change(-1, self._now_s)

    def forecast(self) -> Iterator[tuple[str, OpenRequestCounts]]:
        """Of the current window, by model, as the windows before it let expect: models by name."""
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
        return self._by_number.get(number, {})

    def _close_window(self) -> None:
        """Keep what the current window has seen; what is open goes on in the next one."""
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
    """Their mean, each half as heavy as the one after it in time (the newest is the first)."""
    if not steps:
        return 0.0
    weights = [2.0**-d for d in range(len(steps))]
    return fsum(w * step for w, step in zip(weights, steps, strict=True)) / fsum(weights)
