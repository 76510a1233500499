"""The contract of a strongly consistent store."""

from collections.abc import AsyncGenerator
from typing import Protocol

from sllmreal.store.lease import Lease
from sllmreal.store.values import Event, KeyValue, StoreSnapshot, Txn, TxnResult


class Store(Protocol):
    """A strictly serialisable store: each call takes effect at one instant between call and return.

    An acknowledged write is on disk (of a majority of the nodes), if the store has a disk. Every
    call may raise StoreUnavailableError: then it had no effect. A call that writes may raise
    OutcomeUnknownError. A cancelled write may take effect or not.
    """

    async def get(self, key: str) -> KeyValue | None:
        """Return a key's item; None if it is absent."""

    async def range(
        self, prefix: str, *, after: str | None = None, limit: int | None = None
    ) -> StoreSnapshot:
        """Return the keys with `prefix`, in order: after `after`, at most `limit`."""

    async def put(
        self,
        key: str,
        value: bytes,
        *,
        if_version: int | None = None,
        lease_id: int | None = None,
    ) -> int:
        """Write a key, if its version is `if_version` (0: if it is absent); return its new version.

        Raises:
            ConflictError: The key is at another version.
            LeaseLostError: The lease has ended.
        """

    async def txn(self, txn: Txn) -> TxnResult:
        """Execute a transaction.

        Raises:
            LeaseLostError: A lease that it would attach has ended; nothing was written.
        """

    async def lease(self, ttl_s: float) -> Lease:
        """Return a new lease."""

    def watch(self, prefix: str, from_revision: int) -> AsyncGenerator[Event, None]:
        """Yield the events of all keys under `prefix` from `from_revision` on, in order, without
        gaps.

        After the present events, wait for more. Close the generator (`contextlib.aclosing`).

        Raises:
            CompactedError: The history from there is compacted, or the caller is too slow.
            StoreUnavailableError: The store was closed.
        """

    async def compact(self, revision: int) -> None:
        """Drop the history up to and including `revision`; the present keys stay."""

    async def close(self) -> None:
        """Release everything; later calls raise StoreUnavailableError."""
