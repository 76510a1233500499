"""Clocks for leases: the system's, and a manual one."""

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol


class Timer(Protocol):
    """A scheduled call."""

    def cancel(self) -> None:
        """Cancel the call, if it has not been made."""


class LeaseClock(Protocol):
    """A monotonic clock that makes scheduled calls."""

    def now_s(self) -> float:
        """Return the time, which never decreases."""

    def call_at(self, at_s: float, callback: Callable[[], object]) -> Timer:
        """Call once, not before `at_s`, from the event loop."""


class SystemClock:
    """The machine's monotonic clock, which all processes share until the machine restarts."""

    def now_s(self) -> float:
        """Return the seconds since the machine's start, as Linux counts them."""
        return time.monotonic()

    def call_at(self, at_s: float, callback: Callable[[], object]) -> Timer:
        """Schedule a call in the running event loop."""
        delay_s = max(0.0, at_s - self.now_s())
        return asyncio.get_running_loop().call_later(delay_s, callback)


@dataclass(order=True, slots=True)
class _ManualTimer:
    at_s: float
    number: int
    callback: Callable[[], object] | None = field(compare=False)

    def cancel(self) -> None:
        self.callback = None


class ManualClock:
    """A clock that `advance` moves: for tests and simulated time."""

    def __init__(self) -> None:
        self._now_s = 0.0
        self._timers: list[_ManualTimer] = []
        self._numbers = itertools.count()

    def now_s(self) -> float:
        """Return the sum of all advances."""
        return self._now_s

    def call_at(self, at_s: float, callback: Callable[[], object]) -> Timer:
        """Schedule a call, which the `advance` that reaches `at_s` makes."""
        timer = _ManualTimer(at_s, next(self._numbers), callback)
        heapq.heappush(self._timers, timer)
        return timer

    def advance(self, by_s: float) -> None:
        """Advance the time, and make the calls that fall due on the way, each at its instant."""
        until_s = self._now_s + by_s
        while self._timers and self._timers[0].at_s <= until_s:
            timer = heapq.heappop(self._timers)
            self._now_s = max(self._now_s, timer.at_s)
            if timer.callback is not None:
                timer.callback()
        self._now_s = until_s


async def sleep(clock: LeaseClock, seconds: float) -> None:
    """Return when the clock has advanced by `seconds`."""
    passed = asyncio.Event()
    timer = clock.call_at(clock.now_s() + seconds, passed.set)
    try:
        await passed.wait()
    finally:
        timer.cancel()
