"""The cluster's time."""

import time


class ClusterClock:
    """Seconds since the log began, by the wall clock that all machines share; never back."""

    def __init__(self) -> None:
        self.zero_at_s = time.time()
        self._last_s = 0.0

    def continue_from(self, zero_at_s: float, now_s: float) -> None:
        """Go on where another leader's clock stood, or later."""
        self.zero_at_s = zero_at_s
        self._last_s = now_s

    def now_s(self) -> float:
        self._last_s = max(self._last_s, time.time() - self.zero_at_s)
        return self._last_s
