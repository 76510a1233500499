"""Log lines about refused requests and connections, few enough to be harmless under overload."""

import logging
import time
from collections.abc import Callable

_LOG = logging.getLogger(__name__)
_INTERVAL_S = 10.0


class OverloadLog:
    """Logs refusals, at most one line per `interval_s`, with the number since the last line."""

    def __init__(
        self, interval_s: float = _INTERVAL_S, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._interval_s = interval_s
        self._now_s = now_s
        self._num_refused = 0
        self._next_at_s = float("-inf")

    def refused(self, reason: str) -> None:
        """Count a refusal, and log it if a line is due."""
        self._num_refused += 1
        now_s = self._now_s()
        if now_s < self._next_at_s:
            return
        _LOG.warning("%d refused since the last such line: %s", self._num_refused, reason)
        self._num_refused, self._next_at_s = 0, now_s + self._interval_s
