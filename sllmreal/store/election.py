"""The election of a leader, and writes that only the present leader can make.

The leader's key exists while its lease does. A process that was suspended, or the clock of which is
slow, may take itself for the leader after its lease has ended. Therefore each write of a leader is
a transaction that compares the key's `created`, the *fencing* number, which grows with each leader.
A deposed leader compares with a number that never returns, and its write fails.
"""

import asyncio
from contextlib import aclosing
from dataclasses import replace

from sllmreal.store.clock import LeaseClock
from sllmreal.store.errors import (
    CompactedError,
    LeaseLostError,
    OutcomeUnknownError,
    StoreUnavailableError,
)
from sllmreal.store.keeper import KeptLease
from sllmreal.store.protocol import Store
from sllmreal.store.values import (
    Compare,
    CreatedIs,
    Get,
    Operation,
    Put,
    Removed,
    Txn,
    TxnResult,
    VersionIs,
)


class Leadership:
    """The right to write as the leader, from `campaign`.

    Attributes:
        fencing: The fencing number: greater than that of every earlier leader.
    """

    def __init__(self, store: Store, key: str, fencing: int, lease: KeptLease) -> None:
        self.fencing = fencing
        self._store = store
        self._lease = lease
        self._fence = CreatedIs(key, fencing)
        self._get_leader = Get(key)

    @property
    def lost(self) -> asyncio.Event:
        """Set when the leadership has ended or may have ended: stop acting. Writes are fenced
        anyway."""
        return self._lease.lost

    @property
    def loss(self) -> str:
        """The reason why the leadership is over; empty while it is not."""
        return self._lease.reason

    async def guarded(
        self,
        compares: tuple[Compare, ...],
        then: tuple[Operation, ...],
        otherwise: tuple[Get, ...] = (),
    ) -> TxnResult:
        """Execute a transaction if this is still the leader.

        Raises:
            LeaseLostError: This is not the leader; nothing was written.
        """
        txn = Txn((self._fence, *compares), then, (*otherwise, self._get_leader))
        result = await self._store.txn(txn)
        if result.succeeded:
            return result
        leader = result.found[-1]
        if leader is None or leader.created != self.fencing:
            deposed = f"leader {self.fencing} of {self._fence.key} was deposed"
            self._lease.lose(deposed)
            raise LeaseLostError(deposed)
        return replace(result, found=result.found[:-1])

    async def retried(
        self,
        compares: tuple[Compare, ...],
        then: tuple[Operation, ...],
        otherwise: tuple[Get, ...] = (),
    ) -> TxnResult:
        """Execute a transaction as `guarded` does; retry while its outcome is unknown.

        The transaction may be executed twice, so a second execution must do no harm.

        Raises:
            LeaseLostError: This is not the leader; nothing was written.
            OutcomeUnknownError: The store became unavailable; the next leader will read the
                outcome.
        """
        unknown: OutcomeUnknownError | None = None
        while True:
            try:
                return await self.guarded(compares, then, otherwise)
            except OutcomeUnknownError as error:
                unknown = error
                if self.lost.is_set():
                    raise
            except (LeaseLostError, StoreUnavailableError) as error:
                if unknown is not None:
                    raise unknown from error
                raise

    async def resign(self) -> None:
        """Give up the leadership: at once if the store answers, else when the TTL is over."""
        await self._lease.close()


async def campaign(
    store: Store, key: str, owner: bytes, ttl_s: float, clock: LeaseClock | None = None
) -> Leadership:
    """Wait until this process leads; cancel it to stop waiting.

    Args:
        store: The store that all candidates share.
        key: The key of the leader, for this election only.
        owner: The key's value while this process leads, such as its address.
        ttl_s: The time after which a dead leader is replaced.
        clock: The clock of the lease; None: the system's.

    Raises:
        StoreUnavailableError: The store is unavailable for longer than it retries: campaign again.
    """
    while True:
        present = await store.range(key, limit=1)
        if present.items and present.items[0].key == key:
            await _removed(store, key, present.revision + 1)
            continue
        lease = KeptLease(store, ttl_s, clock)
        try:
            await lease.start()
            created = await _taken(store, key, owner, lease.id)
        except BaseException:
            await lease.close()
            raise
        if created is not None:
            return Leadership(store, key, created, lease)
        await lease.close()


async def _taken(store: Store, key: str, owner: bytes, lease_id: int) -> int | None:
    """Return the revision at which the lease's holder became the leader; None: another leads."""
    take = Txn((VersionIs(key, 0),), (Put(key, owner, lease_id),), (Get(key),))
    while True:
        try:
            result = await store.txn(take)
        except OutcomeUnknownError:
            continue  # the next answer shows, by the lease, whether the first try has won
        except LeaseLostError:
            return None
        if result.succeeded:
            return result.revision
        leader = result.found[0]
        if leader is not None:
            return leader.created if leader.lease_id == lease_id else None


async def _removed(store: Store, key: str, from_revision: int) -> None:
    """Return when the key may have been removed."""
    async with aclosing(store.watch(key, from_revision)) as events:
        try:
            async for event in events:
                if event.key == key and isinstance(event, Removed):
                    return
        except CompactedError:
            return
