"""The storage of a worker whose models have weights, beside models of engines that need none."""

from sllmcore.errors import UsageError
from sllmcore.types import Residency, ServerSpec, StorageTier
from sllmreal.control.deployment import ModelDeployment
from sllmreal.worker.engines import engine_kind
from sllmreal.worker.paced import PacedStorage
from sllmreal.worker.storage import LoadResult, Storage


class StorageByEngine:
    """A `Storage` that hands each instance to one of two storages, by its model's engine.

    Args:
        server: Capacities of the tiers.
        weights: The storage of models with weights; only its content is offered to the leader.
    """

    def __init__(self, server: ServerSpec, weights: Storage) -> None:
        self._weights = weights
        self._weightless = PacedStorage(server)
        self._loading: dict[str, Storage] = {}  # by instance, until it is released

    def begin(
        self, instance_id: str, model: ModelDeployment, cache_in: tuple[StorageTier, ...]
    ) -> None:
        storage: Storage = self._weights if _needs_weights(model) else self._weightless
        storage.begin(instance_id, model, cache_in)
        self._loading[instance_id] = storage

    async def load(self, instance_id: str) -> LoadResult:
        return await self._loading.get(instance_id, self._weights).load(instance_id)

    def end(self, instance_id: str, *, acknowledged: bool) -> None:
        for storage in (self._weights, self._weightless):
            storage.end(instance_id, acknowledged=acknowledged)

    def release(self, instance_id: str) -> None:
        self._loading.pop(instance_id, None)
        for storage in (self._weights, self._weightless):
            storage.release(instance_id)

    def evict(self, tier: StorageTier, model: str, keep_bytes: int) -> None:
        for storage in (self._weights, self._weightless):
            storage.evict(tier, model, keep_bytes)

    def resident(self) -> tuple[Residency, ...]:
        return self._weights.resident()

    async def settled(self) -> None:
        await self._weights.settled()

    async def close(self) -> None:
        await self._weights.close()


def _needs_weights(model: ModelDeployment) -> bool:
    try:
        return engine_kind(model.engine).needs_weights
    except UsageError:
        return True  # whatever it needs: the runner's boot fails, and reports the reason
