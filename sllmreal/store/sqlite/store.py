"""The store in one SQLite file: durable, for a controller without a standby on another machine.

One process, one connection and one thread, which does everything that blocks. A write-ahead log
with `synchronous = FULL`: an acknowledged write is fsynced. Leases survive a restart of the
process. The file belongs on a local file system.
"""

import secrets
from collections.abc import AsyncGenerator
from pathlib import Path

from sllmreal.store.clock import LeaseClock, SystemClock, Timer
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
from sllmreal.store.machine import LeaseRow
from sllmreal.store.puts import put_by_txn
from sllmreal.store.sqlite.committer import CommitResult, Committer
from sllmreal.store.sqlite.filelock import FileLock
from sllmreal.store.values import Event, KeyValue, Put, StoreSnapshot, Txn, TxnResult


class SqliteStore:
    """`Store` in a file. Make it with `await SqliteStore.open(path)`."""

    def __init__(self, path: Path, clock: LeaseClock, lock: FileLock, history_bytes: int) -> None:
        self._clock = clock
        self._lock: FileLock | None = lock
        self._committer = Committer(path, clock, self._on_commit)
        self._history = History(0, history_bytes)
        self._timer: Timer | None = None

    @classmethod
    async def open(
        cls, path: Path, clock: LeaseClock | None = None, history_bytes: int = HISTORY_BYTES
    ) -> "SqliteStore":
        """Open the file, or make it; beside it are `.lock` and, while it is open, `-wal`.

        Watchers get no events from before.

        Raises:
            StoreInUseError: Another store has it open.
            StoreFormatError: The file is not a store.
            StoreUnavailableError: SQLite cannot open it.
        """
        lock = FileLock(path.with_name(path.name + ".lock"))
        store = cls(path, clock or SystemClock(), lock, history_bytes)
        try:
            revision = await store._committer.open()
        except BaseException:
            await store.close()
            raise
        store._history.forget(revision)
        return store

    async def get(self, key: str) -> KeyValue | None:
        """See `Store.get`."""
        checked_key(key)
        return await self._committer.call(lambda _, table: table.get(key))

    async def range(
        self, prefix: str, *, after: str | None = None, limit: int | None = None
    ) -> StoreSnapshot:
        """See `Store.range`."""
        checked_prefix(prefix)
        check_page(after, limit)
        end = prefix + BEHIND_ALL_KEYS
        return await self._committer.call(
            lambda _, table: StoreSnapshot(
                table.revision, tuple(table.items(prefix, end, after, limit))
            )
        )

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
        return await self._committer.call(lambda machine, _: machine.txn(txn))

    async def lease(self, ttl_s: float) -> Lease:
        """See `Store.lease`."""
        check_ttl(ttl_s)
        lease_id = 1 + secrets.randbits(62)
        clock = self._clock
        await self._committer.call(
            lambda machine, _: machine.grant(LeaseRow(lease_id, ttl_s, clock.now_s() + ttl_s))
        )
        return Lease(self, lease_id, ttl_s)

    async def keep_alive(self, lease_id: int) -> None:
        """See `Lease.keep_alive`."""
        clock = self._clock
        await self._committer.call(lambda machine, _: machine.keep_alive(lease_id, clock.now_s()))

    async def revoke(self, lease_id: int) -> None:
        """See `Lease.revoke`."""
        await self._committer.call(lambda machine, _: machine.revoke(lease_id))

    def watch(self, prefix: str, from_revision: int) -> AsyncGenerator[Event, None]:
        """See `Store.watch`."""
        return self._history.watch(prefix, from_revision)

    async def compact(self, revision: int) -> None:
        """See `Store.compact`."""
        check_compaction(revision, await self._committer.call(lambda _, table: table.revision))
        self._history.forget(revision)

    async def close(self) -> None:
        """See `Store.close`."""
        self._history.close()
        await self._committer.close()
        if self._timer is not None:
            self._timer.cancel()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _on_commit(self, result: CommitResult) -> None:
        self._history.publish(result.events)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if result.next_deadline_s is not None:
            self._timer = self._clock.call_at(result.next_deadline_s, self._committer.nudge)
