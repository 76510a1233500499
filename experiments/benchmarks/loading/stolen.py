"""CPU time that the host of a virtual machine gives to others, which slows a round."""

import os
import time
from pathlib import Path

_STAT = Path("/proc/stat")
_STEAL = 8  # index in the first line; see proc_stat(5)
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class StolenTime:
    """A measurement of stolen CPU time, from its creation on."""

    def __init__(self) -> None:
        self._began_s = time.perf_counter()
        self._at_first_s = _stolen_s()

    @property
    def share(self) -> float | None:
        """Stolen share of all CPUs' time; None if the system does not report it."""
        now_s = _stolen_s()
        if now_s is None or self._at_first_s is None:
            return None
        all_s = (time.perf_counter() - self._began_s) * (os.cpu_count() or 1)
        return round(min(1.0, (now_s - self._at_first_s) / all_s), 3)


def _stolen_s() -> float | None:
    try:
        with _STAT.open() as file:
            return int(file.readline().split()[_STEAL]) / _TICKS_PER_S
    except (OSError, IndexError, ValueError):
        return None
