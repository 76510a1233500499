"""Residency: which idle instances stay on their GPUs, and which models stay in DRAM and on SSD."""

from collections.abc import Iterable
from dataclasses import dataclass

from sllmcore.errors import UsageError
from sllmcore.protocols import InstanceView
from sllmcore.types import DRAM, REMOTE, SSD, StorageTier


@dataclass(frozen=True, slots=True)
class LruResidency:
    """Keep what was used last.

    Args:
        keep_alive_s: How long an idle instance stays; None: until its GPUs are wanted.
        keep_alive_load_factor: Instead, stay for this many times the instance's own loading time
            (1 in ServerlessLLM's evaluation, from memory).
        reclaims_idle: Idle instances make room for other models before their keep-alive ends.
        caches_dram: Loads from SSD or remote storage leave a copy in DRAM.
        caches_ssd: Loads from remote storage leave a copy on SSD.
        partial: Evict only as many bytes as are needed; the rest of the model stays.
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
            raise UsageError("idle instances that stay for ever must be reclaimable")

    def instance_keep_alive_s(self, instance: InstanceView) -> float | None:
        """How long this instance may stay idle."""
        if self.keep_alive_load_factor is not None:
            return self.keep_alive_load_factor * instance.load_s
        return self.keep_alive_s

    def cache_in(self, source: StorageTier) -> tuple[StorageTier, ...]:
        """The tiers, nearer than `source`, that keep the bytes of a load."""
        if source is DRAM:
            return ()
        dram = (DRAM,) if self.caches_dram else ()
        if source is REMOTE and self.caches_ssd:
            return (*dram, SSD)
        return dram

    def evictions(
        self, evictable: Iterable[tuple[str, int]], needed_bytes: int
    ) -> list[tuple[str, int]] | None:
        """Least recently used first, until `needed_bytes` are free."""
        chosen: list[tuple[str, int]] = []
        for model, num_bytes in evictable:
            if needed_bytes <= 0:
                break
            surplus_bytes = max(0, num_bytes - needed_bytes)
            chosen.append((model, surplus_bytes if self.partial else 0))
            needed_bytes -= num_bytes
        return chosen if needed_bytes <= 0 else None
