"""The effects of transactions and leases on a table: the semantics of the memory and SQLite stores.

These stores differ in where the table is and in when it is durable, not in its content.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, assert_never

from sllmreal.store.errors import LeaseLostError
from sllmreal.store.values import (
    Compare,
    CreatedIs,
    Delete,
    DeleteRange,
    Event,
    Get,
    KeyValue,
    Put,
    Removed,
    Txn,
    TxnResult,
    VersionIs,
    Written,
)


@dataclass(frozen=True, slots=True)
class LeaseRow:
    """A lease that lives until the clock passes `deadline_s`."""

    id: int
    ttl_s: float
    deadline_s: float


class StoreTable(Protocol):
    """Keys and leases, without any rule."""

    revision: int

    def get(self, key: str) -> KeyValue | None:
        """Return the item; None if it is absent."""

    def write(self, item: KeyValue) -> None:
        """Insert or replace an item."""

    def remove(self, key: str) -> None:
        """Delete a key that is present."""

    def keys_between(self, first: str, end: str) -> Sequence[str]:
        """Return the keys with first <= key < end, in order."""

    def keys_of(self, lease_id: int) -> Sequence[str]:
        """Return the keys of a lease, in order."""

    def lease(self, lease_id: int) -> LeaseRow | None:
        """Return the lease; None if it is absent."""

    def write_lease(self, row: LeaseRow) -> None:
        """Insert or replace a lease."""

    def remove_lease(self, lease_id: int) -> None:
        """Delete a lease that is present."""

    def leases_due(self, now_s: float) -> Sequence[LeaseRow]:
        """Return the leases with deadline_s <= now_s, the oldest deadline first."""


class Machine:
    """Applies one call after the other, and collects events until the driver takes them."""

    def __init__(self, table: StoreTable) -> None:
        self._table = table
        self._events: list[Event] = []

    def take_events(self) -> list[Event]:
        """Return the events since the last call."""
        events, self._events = self._events, []
        return events

    def txn(self, txn: Txn) -> TxnResult:
        """Execute a transaction. Raises LeaseLostError, before any change, if a lease has ended."""
        succeeded = all(self._holds(compare) for compare in txn.compares)
        operations = txn.then if succeeded else txn.otherwise
        for operation in operations:
            if isinstance(operation, Put) and operation.lease_id is not None:
                self._living(operation.lease_id)
        revision = self._table.revision + 1
        found: list[KeyValue | None] = []
        for operation in operations:
            if isinstance(operation, Get):
                found.append(self._table.get(operation.key))
            else:
                self._write(operation, revision)
        if self._events and self._events[-1].revision == revision:
            self._table.revision = revision
        return TxnResult(succeeded, self._table.revision, tuple(found))

    def _holds(self, compare: Compare) -> bool:
        item = self._table.get(compare.key)
        match compare:
            case VersionIs(_, version):
                return (item.version if item else 0) == version
            case CreatedIs(_, created):
                return (item.created if item else 0) == created
            case _:
                assert_never(compare)

    def _write(self, operation: Put | Delete | DeleteRange, revision: int) -> None:
        match operation:
            case Put(key, value, lease_id):
                present = self._table.get(key)
                created = present.created if present else revision
                item = KeyValue(key, value, revision, created, lease_id)
                self._table.write(item)
                self._events.append(Written(item))
            case Delete(key):
                self._remove([key] if self._table.get(key) else [], revision)
            case DeleteRange(first, end):
                self._remove(self._table.keys_between(first, end), revision)
            case _:
                assert_never(operation)

    def _remove(self, keys: Sequence[str], revision: int) -> None:
        for key in keys:
            self._table.remove(key)
            self._events.append(Removed(key, revision))

    def grant(self, row: LeaseRow) -> None:
        """Add a lease with an id that was never used."""
        assert self._table.lease(row.id) is None
        self._table.write_lease(row)

    def keep_alive(self, lease_id: int, now_s: float) -> None:
        """Let a lease live its TTL from now on. Raises LeaseLostError if it has ended."""
        row = self._living(lease_id)
        self._table.write_lease(replace(row, deadline_s=now_s + row.ttl_s))

    def revoke(self, lease_id: int) -> None:
        """End a lease and its keys, if it lives."""
        if self._table.lease(lease_id) is None:
            return
        if keys := self._table.keys_of(lease_id):
            self._table.revision += 1
            self._remove(keys, self._table.revision)
        self._table.remove_lease(lease_id)

    def expire(self, now_s: float) -> None:
        """End the leases that are due. Call it first in each call, so that no dead lease acts."""
        for row in self._table.leases_due(now_s):
            self.revoke(row.id)

    def _living(self, lease_id: int) -> LeaseRow:
        row = self._table.lease(lease_id)
        if row is None:
            raise LeaseLostError(f"lease {lease_id} has ended")
        return row
