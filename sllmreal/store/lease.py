"""A lease, whichever store granted it."""

from typing import Protocol


class LeaseKeeper(Protocol):
    """The part of a store that leases need."""

    async def keep_alive(self, lease_id: int) -> None:
        """As `Lease.keep_alive` says."""

    async def revoke(self, lease_id: int) -> None:
        """As `Lease.revoke` says."""


class Lease:
    """A right with an end: its keys vanish together when nobody keeps it alive.

    Attributes:
        id: What `Put.lease_id` wants.
        ttl_s: How long it lives after each keep-alive: what was asked for, or more.
    """

    def __init__(self, keeper: LeaseKeeper, lease_id: int, ttl_s: float) -> None:
        self.id = lease_id
        self.ttl_s = ttl_s
        self._keeper = keeper

    async def keep_alive(self) -> None:
        """It lives `ttl_s` from some instant between call and return.

        Raises:
            LeaseLostError: It has ended.
            StoreUnavailableError: The store does not answer; it may live or not.
        """
        await self._keeper.keep_alive(self.id)

    async def revoke(self) -> None:
        """End it and delete its keys; no matter if it has ended. Repeat it if it fails."""
        await self._keeper.revoke(self.id)
