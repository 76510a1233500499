"""What a worker needs of its server's storage tiers, whether they hold bytes or only pretend to.

What a tier *counts as resident* is decided by orders alone and changes at once; the storage sees to
it that the bytes follow. An instance's weights stay readable until it releases them, resident or
not.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from sllmcore.types import DRAM, Residency, StorageTier
from sllmreal.control.deployment import ModelDeployment
from sllmreal.engine.weights import Weights


@dataclass(frozen=True, slots=True)
class LoadResult:
    """`num_bytes` came from `source`, the farthest tier that any came from.

    `weights` is None where there are no bytes.
    """

    source: StorageTier
    num_bytes: int
    weights: Weights | None = None


def farthest(moved_bytes: Mapping[StorageTier, int]) -> LoadResult:
    """The result of a load that took so many bytes from each tier."""
    source = min((tier for tier, size in moved_bytes.items() if size), default=DRAM)
    return LoadResult(source, moved_bytes.get(source, 0))


class Storage(Protocol):
    """The tiers of one server. Called from one event loop."""

    def begin(
        self, instance_id: str, model: ModelDeployment, cache_in: tuple[StorageTier, ...]
    ) -> None:
        """A load is coming whose bytes are to stay in `cache_in`: promise them the room.

        Raises:
            ControlError: There is not so much room.
        """
        ...

    async def load(self, instance_id: str) -> LoadResult:
        """Bring the bytes of a load that has begun into memory, verified, from the nearest tiers.

        Cancelled or failed it leaves the tiers as they were, once the instance is released.

        Raises:
            SllmError: The bytes cannot be had.
        """
        ...

    def end(self, instance_id: str, *, acknowledged: bool) -> None:
        """The controller has done with the instance; a load under way is to be cancelled.

        Unless the controller has acknowledged the load, the bytes that it brought into the tiers
        no longer count as resident. Unknown instances are ignored.
        """
        ...

    def release(self, instance_id: str) -> None:
        """Nobody reads the instance's weights any more. Unknown instances are ignored."""
        ...

    def evict(self, tier: StorageTier, model: str, keep_bytes: int) -> None:
        """Only the first `keep_bytes` of a model count as resident from here on."""
        ...

    def resident(self) -> tuple[Residency, ...]:
        """What the tiers hold, as a worker offers it."""
        ...

    async def settled(self) -> None:
        """Return when the bytes of all that was released or evicted are gone."""
        ...

    async def close(self) -> None:
        """Give memory back; the SSD keeps what counts as resident there."""
        ...
