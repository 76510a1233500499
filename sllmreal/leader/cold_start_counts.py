"""How long the phases of all cold starts took, counted by the leader for the gateways' metrics."""

from bisect import bisect_left

from sllmcore.events import LoadFinished
from sllmreal.control.messages import LoadStats, PhaseTimes
from sllmreal.gateway.buckets import BUCKETS_S


class LoadTally:
    """Counts since the cluster began: by source tier and phase."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], list[int]] = {}
        self._total_s: dict[tuple[str, str], float] = {}
        self._num_bytes: dict[str, int] = {}

    def add(self, load: LoadFinished, load_s: float) -> None:
        """A load is over that took `load_s` in all; what it says nothing of, it waited."""
        tier = load.source.name.lower()
        queue_s = max(0.0, load_s - load.transfer_s - load.startup_s)
        self._add(tier, "queue", queue_s)
        self._add(tier, "transfer", load.transfer_s)
        self._add(tier, "startup", load.startup_s)
        self._num_bytes[tier] = self._num_bytes.get(tier, 0) + load.num_bytes

    def _add(self, tier: str, phase: str, seconds: float) -> None:
        counts = self._counts.setdefault((tier, phase), [0] * (len(BUCKETS_S) + 1))
        counts[bisect_left(BUCKETS_S, seconds)] += 1
        self._total_s[tier, phase] = self._total_s.get((tier, phase), 0.0) + seconds

    def message(self) -> LoadStats:
        """As gateways are told."""
        phases = tuple(
            PhaseTimes(tier, phase, tuple(counts), self._total_s[tier, phase])
            for (tier, phase), counts in self._counts.items()
        )
        return LoadStats(phases, dict(self._num_bytes))
