"""The store in this process's memory: for experiments on one machine, tests and simulated time.

It is lost when the process ends. Every call lets other tasks run once before it takes effect, so
that callers interleave as with a real store, in an order that is always the same.
"""

import asyncio
import itertools
from bisect import bisect_left, bisect_right, insort
from collections.abc import AsyncGenerator, Sequence

from sllmreal.store.clock import LeaseClock, SystemClock, Timer
from sllmreal.store.errors import StoreUnavailableError
from sllmreal.store.history import HISTORY_BYTES, History
from sllmreal.store.lease import Lease
from sllmreal.store.limits import (
    BEHIND_ALL_KEYS,
    check_compaction,
    check_page,
    check_ttl,
    checked_key,
    checked_prefix,
)
from sllmreal.store.machine import LeaseRow, Machine
from sllmreal.store.puts import put_by_txn
from sllmreal.store.values import (
    Event,
    KeyValue,
    Put,
    StoreSnapshot,
    Txn,
    TxnResult,
)


class _DictTable:
    def __init__(self) -> None:
        self.revision = 0
        self.leases: dict[int, LeaseRow] = {}
        self.items: dict[str, KeyValue] = {}
        self._keys: list[str] = []

    def get(self, key: str) -> KeyValue | None:
        return self.items.get(key)

    def write(self, item: KeyValue) -> None:
        if item.key not in self.items:
            insort(self._keys, item.key)
        self.items[item.key] = item

    def remove(self, key: str) -> None:
        del self.items[key]
        del self._keys[bisect_left(self._keys, key)]

    def keys_between(self, first: str, end: str) -> Sequence[str]:
        return self._keys[bisect_left(self._keys, first) : bisect_left(self._keys, end)]

    def keys_of(self, lease_id: int) -> Sequence[str]:
        return [key for key in self._keys if self.items[key].lease_id == lease_id]

    def lease(self, lease_id: int) -> LeaseRow | None:
        return self.leases.get(lease_id)

    def write_lease(self, row: LeaseRow) -> None:
        self.leases[row.id] = row

    def remove_lease(self, lease_id: int) -> None:
        del self.leases[lease_id]

    def leases_due(self, now_s: float) -> Sequence[LeaseRow]:
        due = (row for row in self.leases.values() if row.deadline_s <= now_s)
        return sorted(due, key=lambda row: (row.deadline_s, row.id))


class MemoryStore:
    """A `Store` without a disk. Deterministic if its clock is."""

    def __init__(self, clock: LeaseClock | None = None, history_bytes: int = HISTORY_BYTES) -> None:
        self._clock = clock or SystemClock()
        self._table = _DictTable()
        self._machine = Machine(self._table)
        self._history = History(0, history_bytes)
        self._lease_ids = itertools.count(1)
        self._timer: Timer | None = None
        self._closed = False

    async def get(self, key: str) -> KeyValue | None:
        """See `Store.get`."""
        checked_key(key)
        await self._turn()
        return self._table.get(key)

    async def range(
        self, prefix: str, *, after: str | None = None, limit: int | None = None
    ) -> StoreSnapshot:
        """See `Store.range`."""
        checked_prefix(prefix)
        check_page(after, limit)
        await self._turn()
        keys = self._table.keys_between(prefix, prefix + BEHIND_ALL_KEYS)
        if after is not None:
            keys = keys[bisect_right(keys, after) :]
        items = tuple(self._table.items[key] for key in keys[:limit])
        return StoreSnapshot(self._table.revision, items)

    async def put(
        self,
        key: str,
        value: bytes,
        *,
        if_version: int | None = None,
        lease_id: int | None = None,
    ) -> int:
        """See `Store.put`."""
        return await put_by_txn(self.txn, Put(key, value, lease_id), if_version)

    async def txn(self, txn: Txn) -> TxnResult:
        """See `Store.txn`."""
        await self._turn()
        result = self._machine.txn(txn)
        self._history.publish(self._machine.take_events())
        return result

    async def lease(self, ttl_s: float) -> Lease:
        """See `Store.lease`."""
        check_ttl(ttl_s)
        await self._turn()
        row = LeaseRow(next(self._lease_ids), ttl_s, self._clock.now_s() + ttl_s)
        self._machine.grant(row)
        self._arm()
        return Lease(self, row.id, ttl_s)

    async def keep_alive(self, lease_id: int) -> None:
        """See `Lease.keep_alive`."""
        await self._turn()
        self._machine.keep_alive(lease_id, self._clock.now_s())
        self._arm()

    async def revoke(self, lease_id: int) -> None:
        """See `Lease.revoke`."""
        await self._turn()
        self._machine.revoke(lease_id)
        self._history.publish(self._machine.take_events())
        self._arm()

    def watch(self, prefix: str, from_revision: int) -> AsyncGenerator[Event, None]:
        """See `Store.watch`."""
        return self._history.watch(prefix, from_revision)

    async def compact(self, revision: int) -> None:
        """See `Store.compact`."""
        await self._turn()
        check_compaction(revision, self._table.revision)
        self._history.forget(revision)

    async def close(self) -> None:
        """See `Store.close`."""
        self._closed = True
        self._history.close()
        if self._timer is not None:
            self._timer.cancel()

    async def _turn(self) -> None:
        """Let other tasks run once; then the call may take effect."""
        await asyncio.sleep(0)
        if self._closed:
            raise StoreUnavailableError("the store is closed")
        self._expire()

    def _expire(self) -> None:
        self._machine.expire(self._clock.now_s())
        if events := self._machine.take_events():
            self._history.publish(events)

    def _arm(self) -> None:
        """Schedule a call for the end of the next lease, so that watchers get its events."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._table.leases:
            next_s = min(row.deadline_s for row in self._table.leases.values())
            self._timer = self._clock.call_at(next_s, self._fall_due)

    def _fall_due(self) -> None:
        self._expire()
        self._arm()
