"""CPU time that the host of a virtual machine has given to others: why a round may be slow."""

import os
import time
from pathlib import Path

_STAT = Path("/proc/stat")
_STEAL = 8  # of the first line's words; see proc_stat(5)
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Stolen:
    """Since it was made."""

    def __init__(self) -> None:
        self._began_s = time.perf_counter()
        self._at_first_s = _stolen_s()

    @property
    def share(self) -> float | None:
        """Of all CPUs' time; None where the system does not tell."""
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
