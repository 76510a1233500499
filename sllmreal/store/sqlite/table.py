"""Keys and leases in SQLite tables, for `Machine` within one transaction."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

from sllmreal.store.errors import StoreFormatError
from sllmreal.store.machine import LeaseRow
from sllmreal.store.values import KeyValue

FORMAT = 0x534C4C4D  # SQLite's application_id of our files
VERSION = 1

_SCHEMA = """
BEGIN IMMEDIATE;
CREATE TABLE items (
    key TEXT PRIMARY KEY, value BLOB NOT NULL, version INTEGER NOT NULL, created INTEGER NOT NULL,
    lease_id INTEGER
);
CREATE INDEX items_by_lease ON items (lease_id, key) WHERE lease_id IS NOT NULL;
CREATE TABLE leases (
    id INTEGER PRIMARY KEY, ttl_s REAL NOT NULL, deadline_s REAL NOT NULL, boot TEXT NOT NULL
);
CREATE TABLE store (revision INTEGER NOT NULL);
INSERT INTO store VALUES (0);
"""
_ITEM = "SELECT key, value, version, created, lease_id FROM items"


def boot_id() -> str:
    """Return the id of the machine's start, from which the monotonic clock counts; else a new
    one."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except FileNotFoundError:
        return uuid4().hex


class SqlTable:
    """A `StoreTable` over a connection; its caller opens and closes the transactions.

    Deadlines are instants of the monotonic clock, which restarts with the machine: a lease from
        before
    that gets its whole TTL again, so that no lease ends too early.
    """

    def __init__(self, connection: sqlite3.Connection, boot: str, now_s: float) -> None:
        self._sql = connection
        self._boot = boot
        self._next_deadline_s: float | None = None
        self._leases_changed = True  # since _next_deadline_s was read
        self._prepare()
        self.revision = self.saved_revision()
        self._sql.execute(
            "UPDATE leases SET boot = ?, deadline_s = ? + ttl_s WHERE boot != ?",
            (boot, now_s, boot),
        )

    def _prepare(self) -> None:
        (made_by,) = self._sql.execute("PRAGMA application_id").fetchone()
        (version,) = self._sql.execute("PRAGMA user_version").fetchone()
        (num_tables,) = self._sql.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if num_tables == 0:
            self._sql.executescript(_SCHEMA)
            self._sql.execute(f"PRAGMA application_id = {FORMAT}")
            self._sql.execute(f"PRAGMA user_version = {VERSION}")
            self._sql.execute("COMMIT")
        elif made_by != FORMAT or version != VERSION:
            raise StoreFormatError(f"the file is not a store of version {VERSION}")

    def saved_revision(self) -> int:
        """Return the revision in the file, within the present transaction."""
        (revision,) = self._sql.execute("SELECT revision FROM store").fetchone()
        return int(revision)

    def save_revision(self) -> None:
        """Write the revision, before the commit."""
        self._sql.execute("UPDATE store SET revision = ?", (self.revision,))

    def rolled_back(self, revision: int) -> None:
        """Forget the changes of a transaction that began at this revision."""
        self.revision = revision
        self._leases_changed = True

    def get(self, key: str) -> KeyValue | None:
        """See `StoreTable.get`."""
        row = self._sql.execute(f"{_ITEM} WHERE key = ?", (key,)).fetchone()
        return KeyValue(*row) if row else None

    def write(self, item: KeyValue) -> None:
        """See `StoreTable.write`."""
        self._sql.execute(
            "INSERT INTO items VALUES (?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET "
            "value = excluded.value, version = excluded.version, created = excluded.created, "
            "lease_id = excluded.lease_id",
            (item.key, item.value, item.version, item.created, item.lease_id),
        )

    def remove(self, key: str) -> None:
        """See `StoreTable.remove`."""
        self._sql.execute("DELETE FROM items WHERE key = ?", (key,))

    def items(self, first: str, end: str, after: str | None, limit: int | None) -> list[KeyValue]:
        """Return the items with first <= key < end and key > `after`, in order, at most `limit`."""
        rows = self._sql.execute(
            f"{_ITEM} WHERE key >= ? AND key < ? AND key > ? ORDER BY key LIMIT ?",
            (first, end, after or "", -1 if limit is None else limit),
        )
        return [KeyValue(*row) for row in rows]

    def keys_between(self, first: str, end: str) -> Sequence[str]:
        """See `StoreTable.keys_between`."""
        rows = self._sql.execute(
            "SELECT key FROM items WHERE key >= ? AND key < ? ORDER BY key", (first, end)
        )
        return [key for (key,) in rows]

    def keys_of(self, lease_id: int) -> Sequence[str]:
        """See `StoreTable.keys_of`."""
        rows = self._sql.execute(
            "SELECT key FROM items WHERE lease_id = ? ORDER BY key", (lease_id,)
        )
        return [key for (key,) in rows]

    def lease(self, lease_id: int) -> LeaseRow | None:
        """See `StoreTable.lease`."""
        row = self._sql.execute(
            "SELECT id, ttl_s, deadline_s FROM leases WHERE id = ?", (lease_id,)
        ).fetchone()
        return LeaseRow(*row) if row else None

    def write_lease(self, row: LeaseRow) -> None:
        """See `StoreTable.write_lease`."""
        self._leases_changed = True
        self._sql.execute(
            "INSERT OR REPLACE INTO leases VALUES (?, ?, ?, ?)",
            (row.id, row.ttl_s, row.deadline_s, self._boot),
        )

    def remove_lease(self, lease_id: int) -> None:
        """See `StoreTable.remove_lease`."""
        self._leases_changed = True
        self._sql.execute("DELETE FROM leases WHERE id = ?", (lease_id,))

    def leases_due(self, now_s: float) -> Sequence[LeaseRow]:
        """See `StoreTable.leases_due`."""
        next_s = self.next_deadline_s()
        if next_s is None or next_s > now_s:
            return []
        rows = self._sql.execute(
            "SELECT id, ttl_s, deadline_s FROM leases WHERE deadline_s <= ? "
            "ORDER BY deadline_s, id",
            (now_s,),
        )
        return [LeaseRow(*row) for row in rows]

    def next_deadline_s(self) -> float | None:
        """Return the deadline of the next lease; None: there is none. Called twice in each
        commit."""
        if self._leases_changed:
            found = self._sql.execute("SELECT min(deadline_s) FROM leases").fetchone()
            (self._next_deadline_s,) = found
            self._leases_changed = False
        return self._next_deadline_s
