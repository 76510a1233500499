"""What an observer has seen of servers, instances, requests and moves."""

from collections.abc import Iterable

from sllmcore.types import CACHE_TIERS, Residency, ServerSpec, StorageTier


class LawBrokenError(AssertionError):
    """A run did what no run may."""


class SeenInstance:
    """An instance, from its `Load` on."""

    def __init__(
        self, instance_id: str, model: str, server: "SeenServer", gpu_indices: tuple[int, ...]
    ) -> None:
        self.id = instance_id
        self.model = model
        self.server = server
        self.gpu_indices = gpu_indices
        self.ready = False
        self.requests: set[str] = set()
        self.reading: tuple[StorageTier, ...] = ()


class SeenRequest:
    """A request, from its arrival on; `end` says how it ended."""

    def __init__(self, request_id: str, model: str) -> None:
        self.id = request_id
        self.model = model
        self.end: str | None = None
        self.instance: SeenInstance | None = None
        self.attempt = 0
        self.stopping = False

    def at(self, instance_id: str) -> bool:
        return self.instance is not None and self.instance.id == instance_id


class SeenMove:
    """A migration, from its `Resume` to its answer."""

    def __init__(
        self, move_id: str, request_id: str, source: SeenInstance, destination: SeenInstance
    ) -> None:
        self.id = move_id
        self.request_id = request_id
        self.source = source
        self.destination = destination
        self.aborted = False


class SeenServer:
    """GPUs with tenants, tiers with what they hold and what they promised."""

    def __init__(self, spec: ServerSpec, resident: Iterable[Residency]) -> None:
        self.id = spec.id
        self.draining = False
        self.occupants: list[SeenInstance | None] = [None] * spec.num_gpus
        self.capacity = {StorageTier.DRAM: spec.dram_bytes, StorageTier.SSD: spec.ssd_bytes}
        self.held: dict[StorageTier, dict[str, int]] = {tier: {} for tier in CACHE_TIERS}
        self.promised: dict[StorageTier, dict[str, int]] = {tier: {} for tier in CACHE_TIERS}
        self.readers: dict[StorageTier, dict[str, int]] = {tier: {} for tier in CACHE_TIERS}
        self._filling: dict[str, tuple[StorageTier, ...]] = {}
        for found in resident:
            self.held[found.tier][found.model] = found.num_bytes
        self._check_tiers()

    def occupy(
        self, instance: SeenInstance, size_bytes: int, cache_in: tuple[StorageTier, ...]
    ) -> None:
        for index in instance.gpu_indices:
            tenant = self.occupants[index]
            if tenant is not None:
                raise LawBrokenError(f"GPU {index} of {self.id}: {tenant.id}, then {instance.id}")
            self.occupants[index] = instance
        model = instance.model
        instance.reading = tuple(t for t in CACHE_TIERS if self.held[t].get(model))
        for tier in instance.reading:
            self.readers[tier][model] = self.readers[tier].get(model, 0) + 1
        for tier in cache_in:
            if model in self.promised[tier]:
                raise LawBrokenError(f"{model} is promised room twice in {tier.name} of {self.id}")
            self.promised[tier][model] = size_bytes - self.held[tier].get(model, 0)
            if self.promised[tier][model] <= 0:
                raise LawBrokenError(f"{tier.name} of {self.id} holds all of {model} already")
        self._filling[instance.id] = cache_in
        self._check_tiers()

    def arrived(self, instance: SeenInstance) -> None:
        """Its bytes have come: what it was promised, it holds."""
        for tier in self._filling.pop(instance.id):
            promised = self.promised[tier].pop(instance.model)
            self.held[tier][instance.model] = self.held[tier].get(instance.model, 0) + promised
        self._end_reading(instance)

    def vacate(self, instance: SeenInstance) -> None:
        for tier in self._filling.pop(instance.id, ()):
            del self.promised[tier][instance.model]
        self._end_reading(instance)
        self.occupants = [None if tenant is instance else tenant for tenant in self.occupants]

    def evict(self, tier: StorageTier, model: str, keep_bytes: int) -> None:
        held = self.held[tier].pop(model, 0)
        if held <= keep_bytes:
            raise LawBrokenError(f"Evict of {model} to {keep_bytes} of {held} bytes in {tier.name}")
        if model in self.promised[tier] or self.readers[tier].get(model):
            raise LawBrokenError(f"Evict of {model}, which a load on {self.id} is using")
        if keep_bytes:
            self.held[tier][model] = keep_bytes

    def check_quiet(self) -> None:
        if any(self.promised.values()) or any(self.readers.values()) or self._filling:
            raise LawBrokenError(f"{self.id}: promised {self.promised}, read {self.readers}")

    def _end_reading(self, instance: SeenInstance) -> None:
        for tier in instance.reading:
            readers = self.readers[tier]
            readers[instance.model] -= 1
            if not readers[instance.model]:
                del readers[instance.model]
        instance.reading = ()

    def _check_tiers(self) -> None:
        for tier in CACHE_TIERS:
            used = sum(self.held[tier].values()) + sum(self.promised[tier].values())
            if not used <= self.capacity[tier]:
                raise LawBrokenError(f"{tier.name} of {self.id}: {used} of {self.capacity[tier]}")
            if any(num_bytes <= 0 for num_bytes in self.held[tier].values()):
                raise LawBrokenError(f"{tier.name} of {self.id} holds {self.held[tier]}")
