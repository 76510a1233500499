"""The seam between the simulator and its event kernel: what time it is, call me then, never mind.

Callbacks on bare SimPy timeouts: a process per request costs twice as much, and `Resource`,
`AnyOf` and `interrupt` three to ten times (measured on SimPy 4.1, Python 3.11).
"""

from collections.abc import Callable
from math import inf, nextafter

from simpy import Environment
from simpy.events import Event, Timeout

Callback = Callable[[Event], None]  # gets the timeout that fired; most need not look at it


class SimClock(Environment):
    """Simulated time, in seconds from the start of the run: `now`, as SimPy calls it."""

    def call_in(self, delay_s: float, callback: Callback) -> Timeout:
        """Call back after `delay_s`. Calls due at one instant come in the order of their asking."""
        timeout = Timeout(self, delay_s)
        timeout.callbacks.append(callback)
        return timeout

    def call_at(self, at_s: float, callback: Callback) -> Timeout:
        """Call back at `at_s` or, by the rounding of a float, an instant after; never before."""
        now_s = self.now
        delay_s = max(0.0, at_s - now_s)
        while now_s + delay_s < at_s:
            delay_s = nextafter(delay_s, inf)
        return self.call_in(delay_s, callback)

    @staticmethod
    def cancel(timeout: Timeout) -> None:
        """Never mind. SimPy cannot withdraw an event: this one will fire into nothing."""
        if timeout.callbacks is not None:
            timeout.callbacks.clear()
