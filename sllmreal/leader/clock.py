"""The cluster's time."""

import time


class ClusterClock:
    """Seconds since the log began, by the wall clock, which all machines share; monotonic."""

    def __init__(self) -> None:
        self.zero_at_s = time.time()
        self._last_s = 0.0

    def continue_from(self, zero_at_s: float, now_s: float) -> None:
        """Continue another leader's clock from its time `now_s`, or later."""
        self.zero_at_s = zero_at_s
        self._last_s = now_s

    def now_s(self) -> float:
        """Return the cluster's time."""
        self._last_s = max(self._last_s, time.time() - self.zero_at_s)
        return self._last_s
