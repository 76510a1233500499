"""The interface of a worker to its server's storage tiers, with bytes or without.

Messages alone decide which bytes count as resident in a tier, and the count changes at once; the
storage makes the bytes follow. The weights of an instance stay readable until it releases them,
resident or not.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from sllmcore.types import DRAM, Residency, StorageTier
from sllmreal.control.deployment import ModelDeployment
from sllmreal.engine.weights import Weights


@dataclass(frozen=True, slots=True)
class LoadResult:
    """A finished load.

    Args:
        source: The farthest tier that bytes came from; `num_bytes` came from there.
        weights: None where there are no bytes.
    """

    source: StorageTier
    num_bytes: int
    weights: Weights | None = None


def farthest(moved_bytes: Mapping[StorageTier, int]) -> LoadResult:
    """Return the result of a load from its bytes by tier."""
    source = min((tier for tier, size in moved_bytes.items() if size), default=DRAM)
    return LoadResult(source, moved_bytes.get(source, 0))


class Storage(Protocol):
    """The tiers of one server. Used from one event loop."""

    def begin(
        self, instance_id: str, model: ModelDeployment, cache_in: tuple[StorageTier, ...]
    ) -> None:
        """Reserve room in `cache_in` for the bytes of a load.

        Raises:
            ControlError: A tier has too little room.
        """
        ...

    async def load(self, instance_id: str) -> LoadResult:
        """Bring the bytes of a load that has begun into memory, verified, from the nearest tiers.

        If it is cancelled or fails, the tiers are as before once the instance is released.

        Raises:
            SllmError: The bytes cannot be loaded.
        """
        ...

    def end(self, instance_id: str, *, acknowledged: bool) -> None:
        """Note that the controller has stopped the instance; cancel a load under way.

        Unless the controller has acknowledged the load, the bytes that it brought into the tiers
        no longer count as resident. Unknown instances are ignored.
        """
        ...

    def release(self, instance_id: str) -> None:
        """Release the instance's weights: no process reads them any more.

        Unknown instances are ignored.
        """
        ...

    def evict(self, tier: StorageTier, model: str, keep_bytes: int) -> None:
        """Count only the first `keep_bytes` of a model as resident."""
        ...

    def resident(self) -> tuple[Residency, ...]:
        """Return the models that count as resident, for the worker's offer."""
        ...

    async def settled(self) -> None:
        """Return when the bytes of everything released or evicted are gone."""
        ...

    async def close(self) -> None:
        """Free the memory. The SSD keeps the bytes that count as resident there."""
        ...
