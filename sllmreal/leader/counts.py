"""Counts of what a cluster has done since it began; the leader sends them to the gateways.

Each gateway shows them on its metrics page. A further count takes a field of `LoadStats`, code
here, and a metric in the gateway.
"""

from bisect import bisect_left
from collections import Counter

from sllmcore.events import Event, LoadFailed, LoadFinished
from sllmcore.protocols import InstanceView
from sllmreal.control.buckets import BUCKETS_S
from sllmreal.control.messages import LoadStats, PhaseTimes


class ClusterCounts:
    """Cold starts by source tier and phase, and bytes loaded by source tier."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], list[int]] = {}
        self._total_s: dict[tuple[str, str], float] = {}
        self._num_bytes: dict[str, int] = {}
        self._num_failed: Counter[str] = Counter()  # loads, by model

    def note(self, event: Event, instance: InstanceView | None) -> None:
        """Count an event that the controller has handled.

        Args:
            event: The event.
            instance: The instance of a `LoadFinished` or `LoadFailed`, if the controller knew it.
        """
        if isinstance(event, LoadFailed) and instance is not None:
            self._num_failed[instance.model] += 1
        if isinstance(event, LoadFinished) and instance is not None:
            self._note_load(event, instance.load_s)

    def _note_load(self, load: LoadFinished, load_s: float) -> None:
        """Count a cold start of `load_s`; the part in no phase was spent in a queue."""
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
        """Return the counts as the message to the gateways."""
        phases = tuple(
            PhaseTimes(tier, phase, tuple(counts), self._total_s[tier, phase])
            for (tier, phase), counts in self._counts.items()
        )
        return LoadStats(phases, dict(self._num_bytes), dict(self._num_failed))
