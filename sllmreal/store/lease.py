"""Leases of any store."""

from typing import Protocol


class LeaseKeeper(Protocol):
    """The part of a store that leases use."""

    async def keep_alive(self, lease_id: int) -> None:
        """See `Lease.keep_alive`."""

    async def revoke(self, lease_id: int) -> None:
        """See `Lease.revoke`."""


class Lease:
    """A right that ends: its keys vanish together unless it is kept alive.

    Attributes:
        id: The id for `Put.lease_id`.
        ttl_s: Seconds that it lives after each keep-alive: those requested, or more.
    """

    def __init__(self, keeper: LeaseKeeper, lease_id: int, ttl_s: float) -> None:
        self.id = lease_id
        self.ttl_s = ttl_s
        self._keeper = keeper

    async def keep_alive(self) -> None:
        """Let the lease live for `ttl_s` from some instant between call and return.

        Raises:
            LeaseLostError: The lease has ended.
            StoreUnavailableError: The store does not answer; the lease may live or not.
        """
        await self._keeper.keep_alive(self.id)

    async def revoke(self) -> None:
        """End the lease, if it lives, and delete its keys. Repeat the call if it fails."""
        await self._keeper.revoke(self.id)
