"""Servers, instances, requests and migrations as an observer records them."""

from collections.abc import Iterable

from sllmcore.types import CACHE_TIERS, Residency, ServerSpec, StorageTier


class LawBrokenError(AssertionError):
    """A run broke a law."""


class ObservedInstance:
    """An instance since its `LaunchInstance`."""

    def __init__(
        self, instance_id: str, model: str, server: "ObservedServer", gpu_indices: tuple[int, ...]
    ) -> None:
        self.id = instance_id
        self.model = model
        self.server = server
        self.gpu_indices = gpu_indices
        self.ready = False
        self.requests: set[str] = set()
        self.reading: tuple[StorageTier, ...] = ()


class ObservedRequest:
    """A request since its arrival; `end` is the way in which it ended."""

    def __init__(self, request_id: str, model: str) -> None:
        self.id = request_id
        self.model = model
        self.end: str | None = None
        self.instance: ObservedInstance | None = None
        self.attempt = 0
        self.stopping = False

    def at(self, instance_id: str) -> bool:
        """Return True if the request runs on this instance."""
        return self.instance is not None and self.instance.id == instance_id


class ObservedMigration:
    """A migration from its `StartMigration` to its answer."""

    def __init__(
        self, move_id: str, request_id: str, source: ObservedInstance, destination: ObservedInstance
    ) -> None:
        self.id = move_id
        self.request_id = request_id
        self.source = source
        self.destination = destination
        self.aborted = False


class ObservedServer:
    """The GPUs of a server with their occupants; its tiers with held and reserved bytes."""

    def __init__(self, spec: ServerSpec, resident: Iterable[Residency]) -> None:
        self.id = spec.id
        self.draining = False
        self.occupants: list[ObservedInstance | None] = [None] * spec.num_gpus
        self.capacity = {StorageTier.DRAM: spec.dram_bytes, StorageTier.SSD: spec.ssd_bytes}
        self.held: dict[StorageTier, dict[str, int]] = {tier: {} for tier in CACHE_TIERS}
        self.reserved: dict[StorageTier, dict[str, int]] = {tier: {} for tier in CACHE_TIERS}
        self.readers: dict[StorageTier, dict[str, int]] = {tier: {} for tier in CACHE_TIERS}
        self._filling: dict[str, tuple[StorageTier, ...]] = {}
        for found in resident:
            self.held[found.tier][found.model] = found.num_bytes
        self._check_tiers()

    def occupy(
        self, instance: ObservedInstance, size_bytes: int, cache_in: tuple[StorageTier, ...]
    ) -> None:
        for index in instance.gpu_indices:
            occupant = self.occupants[index]
            if occupant is not None:
                names = f"{occupant.id}, then {instance.id}"
                raise LawBrokenError(f"GPU {index} of {self.id} has two occupants: {names}")
            self.occupants[index] = instance
        model = instance.model
        instance.reading = tuple(t for t in CACHE_TIERS if self.held[t].get(model))
        for tier in instance.reading:
            self.readers[tier][model] = self.readers[tier].get(model, 0) + 1
        for tier in cache_in:
            if model in self.reserved[tier]:
                raise LawBrokenError(
                    f"space for {model} is reserved twice in {tier.name} of {self.id}"
                )
            self.reserved[tier][model] = size_bytes - self.held[tier].get(model, 0)
            if self.reserved[tier][model] <= 0:
                raise LawBrokenError(f"{tier.name} of {self.id} holds all of {model} already")
        self._filling[instance.id] = cache_in
        self._check_tiers()

    def arrived(self, instance: ObservedInstance) -> None:
        """Turn the reserved bytes of a finished load into held bytes."""
        for tier in self._filling.pop(instance.id):
            reserved = self.reserved[tier].pop(instance.model)
            self.held[tier][instance.model] = self.held[tier].get(instance.model, 0) + reserved
        self._end_reading(instance)

    def vacate(self, instance: ObservedInstance) -> None:
        for tier in self._filling.pop(instance.id, ()):
            del self.reserved[tier][instance.model]
        self._end_reading(instance)
        self.occupants = [None if each is instance else each for each in self.occupants]

    def evict(self, tier: StorageTier, model: str, keep_bytes: int) -> None:
        held = self.held[tier].pop(model, 0)
        if held <= keep_bytes:
            raise LawBrokenError(
                f"EvictCopy of {model} to {keep_bytes} of {held} bytes in {tier.name}"
            )
        if model in self.reserved[tier] or self.readers[tier].get(model):
            raise LawBrokenError(f"EvictCopy of {model}, which a load on {self.id} is using")
        if keep_bytes:
            self.held[tier][model] = keep_bytes

    def check_quiet(self) -> None:
        if any(self.reserved.values()) or any(self.readers.values()) or self._filling:
            raise LawBrokenError(f"{self.id}: reserved {self.reserved}, read {self.readers}")

    def _end_reading(self, instance: ObservedInstance) -> None:
        for tier in instance.reading:
            readers = self.readers[tier]
            readers[instance.model] -= 1
            if not readers[instance.model]:
                del readers[instance.model]
        instance.reading = ()

    def _check_tiers(self) -> None:
        for tier in CACHE_TIERS:
            used = sum(self.held[tier].values()) + sum(self.reserved[tier].values())
            if not used <= self.capacity[tier]:
                raise LawBrokenError(f"{tier.name} of {self.id}: {used} of {self.capacity[tier]}")
            if any(num_bytes <= 0 for num_bytes in self.held[tier].values()):
                raise LawBrokenError(f"{tier.name} of {self.id} holds {self.held[tier]}")
