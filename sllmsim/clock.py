"""The simulator's clock on SimPy: the time, and callbacks at given times.

Callbacks are bare SimPy timeouts: a process per request costs twice as much, and `Resource`,
`AnyOf` and `interrupt` cost three to ten times as much (measured on SimPy 4.1, Python 3.11).
"""

from collections.abc import Callable
from math import inf, nextafter

from simpy import Environment
from simpy.events import Event, Timeout

Callback = Callable[[Event], None]  # called with the timeout that fired


class SimClock(Environment):
    """Simulated time: SimPy's `now`, in seconds from the start of the run."""

    def call_in(self, delay_s: float, callback: Callback) -> Timeout:
        """Call back after `delay_s`. Callbacks due at the same instant keep their order."""
        timeout = Timeout(self, delay_s)
        timeout.callbacks.append(callback)
        return timeout

    def call_at(self, at_s: float, callback: Callback) -> Timeout:
        """Call back at `at_s`, or one rounding of a float later; never earlier."""
        now_s = self.now
        delay_s = max(0.0, at_s - now_s)
        while now_s + delay_s < at_s:
            delay_s = nextafter(delay_s, inf)
        return self.call_in(delay_s, callback)

    @staticmethod
    def cancel(timeout: Timeout) -> None:
        """Clear the callbacks. SimPy cannot withdraw an event, so that it still fires."""
        if timeout.callbacks is not None:
            timeout.callbacks.clear()
