"""Residency: which idle instances keep their GPUs and which models stay in DRAM and on SSD."""

from collections.abc import Iterable
from dataclasses import dataclass

from sllmcore.errors import UsageError
from sllmcore.protocols import InstanceView
from sllmcore.types import DRAM, REMOTE, SSD, StorageTier


@dataclass(frozen=True, slots=True)
class LruResidency:
    """A residency policy that evicts the least recently used model.

    Args:
        keep_alive_s: Time that an idle instance is kept; None: until its GPUs are needed.
        keep_alive_load_factor: Instead, the keep-alive as a multiple of the instance's own loading
            time (1 in ServerlessLLM's evaluation, loads from memory).
        reclaims_idle: True if other models may take an idle instance's GPUs within its keep-alive.
        caches_dram: True if loads from SSD or remote storage leave a copy in DRAM.
        caches_ssd: True if loads from remote storage leave a copy on SSD.
        partial: True to evict only the bytes needed and to keep the rest of the model.

    Raises:
        UsageError: The settings contradict each other or a keep-alive is negative.
    """

    keep_alive_s: float | None = None
    keep_alive_load_factor: float | None = None
    reclaims_idle: bool = True
    caches_dram: bool = True
    caches_ssd: bool = True
    partial: bool = False

    def __post_init__(self) -> None:
        if self.keep_alive_s is not None and self.keep_alive_load_factor is not None:
            raise UsageError("give keep_alive_s or keep_alive_load_factor, not both")
        for name in ("keep_alive_s", "keep_alive_load_factor"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise UsageError(f"{name} must not be negative, got {value}")
        forever = self.keep_alive_s is None and self.keep_alive_load_factor is None
        if forever and not self.reclaims_idle:
            raise UsageError(
                "idle instances must be reclaimable: set a keep-alive or reclaims_idle"
            )

    def instance_keep_alive_s(self, instance: InstanceView) -> float | None:
        """Return how long this instance may stay idle; None: until its GPUs are needed."""
        if self.keep_alive_load_factor is not None:
            return self.keep_alive_load_factor * instance.load_s
        return self.keep_alive_s

    def cache_in(self, source: StorageTier) -> tuple[StorageTier, ...]:
        """Return the tiers nearer than `source` that keep a copy of a load."""
        if source is DRAM:
            return ()
        dram = (DRAM,) if self.caches_dram else ()
        if source is REMOTE and self.caches_ssd:
            return (*dram, SSD)
        return dram

    def evictions(
        self, evictable: Iterable[tuple[str, int]], needed_bytes: int
    ) -> list[tuple[str, int]] | None:
        """Choose the least recently used models until `needed_bytes` are free.

        Returns (model, bytes to keep) for each; None if all of them are not enough.
        """
        chosen: list[tuple[str, int]] = []
        for model, num_bytes in evictable:
            if needed_bytes <= 0:
                break
            surplus_bytes = max(0, num_bytes - needed_bytes)
            chosen.append((model, surplus_bytes if self.partial else 0))
            needed_bytes -= num_bytes
        return chosen if needed_bytes <= 0 else None
