"""What a strongly consistent store promises, whoever keeps it."""

from collections.abc import AsyncGenerator
from typing import Protocol

from sllmreal.store.lease import Lease
from sllmreal.store.values import Event, KeyValue, StoreSnapshot, Txn, TxnResult


class Store(Protocol):
    """Strictly serialisable: each call takes effect at one instant between call and return.

    What was acknowledged is on disk (of a majority of the nodes), where the store has a disk. Every
    call may raise StoreUnavailableError, which says that it had no effect. A call that writes may
    raise OutcomeUnknownError. A caller that is cancelled knows nothing of its write's outcome.
    """

    async def get(self, key: str) -> KeyValue | None:
        """The key as it stands, None when absent."""

    async def range(
        self, prefix: str, *, after: str | None = None, limit: int | None = None
    ) -> StoreSnapshot:
        """Keys that begin with `prefix`, in order; those behind `after`; at most `limit`."""

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
            ConflictError: It is at another version.
            LeaseLostError: The lease has ended.
        """

    async def txn(self, txn: Txn) -> TxnResult:
        """Carry a transaction out.

        Raises:
            LeaseLostError: A lease that it would attach has ended; nothing was written.
        """

    async def lease(self, ttl_s: float) -> Lease:
        """A new lease."""

    def watch(self, prefix: str, from_revision: int) -> AsyncGenerator[Event, None]:
        """The events of all keys under `prefix` from `from_revision` on: in order, without gaps.

        Waits for more when it has given all there are. Close it (`contextlib.aclosing`).

        Raises:
            CompactedError: History from there is forgotten, or the caller has fallen behind it.
            StoreUnavailableError: The store was closed.
        """

    async def compact(self, revision: int) -> None:
        """Forget the history up to and with `revision`; the present stays."""

    async def close(self) -> None:
        """Release everything; calls from then on raise StoreUnavailableError."""
