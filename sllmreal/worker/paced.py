"""Tiers without bytes, at given bandwidths: for engines without weights, tests and soaks.

transfer_s = max over tiers of bytes / bandwidth        all tiers are read at once
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping

from sllmcore.errors import UsageError
from sllmcore.tier_ledger import TierLedger
from sllmcore.types import DRAM, REMOTE, SSD, Residency, ServerSpec, StorageTier
from sllmreal.control.deployment import ModelDeployment
from sllmreal.worker.storage import LoadResult, farthest

Sleep = Callable[[float], Awaitable[object]]


class PacedStorage:
    """A `Storage` without bytes: loads take the time that the server's bandwidths give.

    Args:
        server: Has the capacity and the bandwidth of each tier.
        resident: The models in the tiers at the start.
        sleep: Awaited with the seconds of a load.

    Raises:
        ControlError: `resident` exceeds a tier.
    """

    def __init__(
        self,
        server: ServerSpec,
        resident: Iterable[Residency] = (),
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._bytes_per_s: Mapping[StorageTier, float] = {
            REMOTE: server.remote_bytes_per_s,
            SSD: server.ssd_bytes_per_s,
            DRAM: server.dram_bytes_per_s,
        }
        self._ledger = TierLedger(
            server.id, {DRAM: server.dram_bytes, SSD: server.ssd_bytes}, resident
        )
        self._models: dict[str, ModelDeployment] = {}  # by instance, from `begin` on
        self._sleep = sleep

    def begin(
        self, instance_id: str, model: ModelDeployment, cache_in: tuple[StorageTier, ...]
    ) -> None:
        """See `Storage`; so for all methods."""
        self._ledger.promise(instance_id, model.name, model.size_bytes, cache_in)
        self._models[instance_id] = model

    async def load(self, instance_id: str) -> LoadResult:
        model = self._models.get(instance_id)
        if model is None:
            raise UsageError(f"no load of {instance_id} has begun")
        from_dram = min(model.size_bytes, self._ledger.held_bytes(DRAM, model.name))
        from_ssd = min(model.size_bytes - from_dram, self._ledger.held_bytes(SSD, model.name))
        from_remote = model.size_bytes - from_dram - from_ssd
        moved = {DRAM: from_dram, SSD: from_ssd, REMOTE: from_remote}
        await self._sleep(max(size / self._bytes_per_s[tier] for tier, size in moved.items()))
        if self._models.get(instance_id) is model:
            self._ledger.fill(instance_id)
        return farthest(moved)

    def end(self, instance_id: str, *, acknowledged: bool) -> None:
        self._models.pop(instance_id, None)
        self._ledger.end(instance_id, acknowledged=acknowledged)

    def release(self, instance_id: str) -> None:
        self._models.pop(instance_id, None)

    def evict(self, tier: StorageTier, model: str, keep_bytes: int) -> None:
        self._ledger.evict(tier, model, keep_bytes)

    def resident(self) -> tuple[Residency, ...]:
        return self._ledger.resident()

    async def settled(self) -> None:
        return

    async def close(self) -> None:
        self._models.clear()
