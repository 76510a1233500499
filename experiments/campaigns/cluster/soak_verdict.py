"""Decide whether a series grows: the median of its last third exceeds a limit.

    limit = median of the first third * (1 + share) + least

The first tenth of the run is warm-up and is left out. Medians of thirds are not affected by a
sawtooth, a killed process or a moment of load. A steady leak raises the median of the last third by
two thirds of the total leak.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

from experiments.campaigns.cluster.soak_samples import SampleSeries

WARM_UP_SHARE = 0.1
LEAST_SAMPLES = 12  # after warm-up, so that a third has four


@dataclass(frozen=True, slots=True)
class GrowthAllowance:
    """Increase that does not count as growth: a share of the first median, plus a constant."""

    share: float
    least: float


@dataclass(frozen=True, slots=True)
class GrowthVerdict:
    """Medians of the first and last third of one series, and the limit for the last."""

    series: str
    first: float
    last: float
    allowed: float

    @property
    def grows(self) -> bool:
        """True if the last median exceeds the limit."""
        return self.last > self.allowed


ALLOWANCES = {
    "rss_bytes": GrowthAllowance(0.05, 4 << 20),
    "files": GrowthAllowance(0.0, 3.0),
    "threads": GrowthAllowance(0.0, 2.0),
    "processes": GrowthAllowance(0.0, 1.5),
    "segments": GrowthAllowance(0.0, 1.5),
    "bytes": GrowthAllowance(0.1, 8 << 20),  # SQLite's write-ahead log: up to 4 MiB, never shrinks
    "keys": GrowthAllowance(0.25, 500.0),
    "entries": GrowthAllowance(0.1, 12.0),
    "requests": GrowthAllowance(0.5, 8.0),
    "instances": GrowthAllowance(0.0, 1.5),
}
# Series of the whole machine, which other programs may use.
NOT_JUDGED = frozenset({"/dev/shm bytes"})


def verdicts(series: Mapping[str, SampleSeries]) -> list[GrowthVerdict]:
    """Return a verdict on each judged series that has enough samples."""
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
        found.append(GrowthVerdict(name, first, last, allowed))
    return found
