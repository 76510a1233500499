"""Whether a number grows: the median of its last third against that of its first.

Medians of thirds do not mind a sawtooth, a dead process, or a moment of load; a leak lifts the
last third by two thirds of all that it has leaked. The first tenth of a run is warming up and does
not count. What may come on top of the first third's median is `share` of that and `least`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

from experiments.campaigns.cluster.soak_samples import Series

WARM_UP_SHARE = 0.1
LEAST_SAMPLES = 12  # of the rest: thirds of four


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is no growth."""

    share: float
    least: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found of one series."""

    series: str
    first: float
    last: float
    allowed: float

    @property
    def grows(self) -> bool:
        return self.last > self.allowed


ALLOWANCES = {
    "rss_bytes": Allowance(0.05, 4 << 20),
    "files": Allowance(0.0, 3.0),
    "threads": Allowance(0.0, 2.0),
    "processes": Allowance(0.0, 1.5),
    "segments": Allowance(0.0, 1.5),
    "bytes": Allowance(0.1, 8 << 20),  # SQLite's write-ahead log has 4 MiB, once it had so much
    "keys": Allowance(0.25, 500.0),
    "entries": Allowance(0.1, 12.0),
    "requests": Allowance(0.5, 8.0),
    "instances": Allowance(0.0, 1.5),
}
# On the whole machine; others may use it.
NOT_JUDGED = frozenset({"/dev/shm bytes"})


def verdicts(series: Mapping[str, Series]) -> list[Verdict]:
    """Of every series that is long enough to tell and is judged."""
    found = []
    for name, one in series.items():
        if name in NOT_JUDGED:
            continue
        values = one.values[int(len(one.values) * WARM_UP_SHARE) :]
        if len(values) < LEAST_SAMPLES:
            continue
        third = len(values) // 3
        first, last = median(values[:third]), median(values[-third:])
        allowance = ALLOWANCES[name.split()[-1]]
        allowed = first * (1 + allowance.share) + allowance.least
        found.append(Verdict(name, first, last, allowed))
    return found
