"""Arguments and results of a store: keys with versions, transactions, events.

A store has one *revision*, which grows by one with each transaction that changes something. The
*version* of a key is the revision of its last write; 0 if it is absent. No version returns, so a
compare on a version has no ABA problem. `created` is the revision at which the key was last
created.
"""

from dataclasses import dataclass

from sllmcore.errors import UsageError
from sllmreal.store.limits import MAX_OPERATIONS, MAX_TXN_BYTES, MAX_VALUE_BYTES, checked_key


@dataclass(frozen=True, slots=True)
class KeyValue:
    """A key with its present value."""

    key: str
    value: bytes
    version: int
    created: int
    lease_id: int | None


@dataclass(frozen=True, slots=True)
class VersionIs:
    """A compare: the last write of `key` is that of revision `version`; 0: `key` is absent."""

    key: str
    version: int

    def __post_init__(self) -> None:
        checked_key(self.key)
        if self.version < 0:
            raise UsageError(f"a version must not be negative, got {self.version}")


@dataclass(frozen=True, slots=True)
class CreatedIs:
    """A compare: `key` was created at revision `created`, however often it was written since."""

    key: str
    created: int

    def __post_init__(self) -> None:
        checked_key(self.key)
        if self.created < 0:
            raise UsageError(f"a revision must not be negative, got {self.created}")


@dataclass(frozen=True, slots=True)
class Put:
    """Write a key; with a lease it vanishes when the lease ends."""

    key: str
    value: bytes
    lease_id: int | None = None

    def __post_init__(self) -> None:
        checked_key(self.key)
        if len(self.value) > MAX_VALUE_BYTES:
            raise UsageError(
                f"a value has at most {MAX_VALUE_BYTES} bytes, {self.key} got {len(self.value)}"
            )


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete a key, if it is present."""

    key: str

    def __post_init__(self) -> None:
        checked_key(self.key)


@dataclass(frozen=True, slots=True)
class DeleteRange:
    """Delete all keys `first <= key < end`, in the order of their bytes."""

    first: str
    end: str

    def __post_init__(self) -> None:
        checked_key(self.first)
        checked_key(self.end)
        if self.first >= self.end:
            raise UsageError(f"a range ends after its first key, got {self.first} to {self.end}")


@dataclass(frozen=True, slots=True)
class Get:
    """Read a key within a transaction."""

    key: str

    def __post_init__(self) -> None:
        checked_key(self.key)


Compare = VersionIs | CreatedIs
Operation = Put | Delete | DeleteRange | Get


@dataclass(frozen=True, slots=True)
class Txn:
    """A transaction: if all compares hold, `then` is executed, else `otherwise`, at one instant.

    Raises:
        UsageError: There are too many operations or bytes, or one branch writes a key twice.
    """

    compares: tuple[Compare, ...]
    then: tuple[Operation, ...]
    otherwise: tuple[Operation, ...] = ()

    def __post_init__(self) -> None:
        longest = max(len(self.compares), len(self.then), len(self.otherwise))
        if longest > MAX_OPERATIONS:
            raise UsageError(f"a transaction has up to {MAX_OPERATIONS} operations, got {longest}")
        num_bytes = sum(_size_bytes(part) for part in self.compares + self.then + self.otherwise)
        if num_bytes > MAX_TXN_BYTES:
            raise UsageError(f"a transaction has up to {MAX_TXN_BYTES} bytes, got {num_bytes}")
        _check_writes_once(self.then)
        _check_writes_once(self.otherwise)

    @property
    def reads_only(self) -> bool:
        """True if neither branch writes."""
        return all(isinstance(operation, Get) for operation in self.then + self.otherwise)

    @property
    def applies_once(self) -> bool:
        """True if success makes one of the compares false, and failure writes nothing.

        Then a copy of it, sent because the answer was lost, cannot take effect too (as long as no
        process deletes a key that it created).
        """
        if not all(isinstance(operation, Get) for operation in self.otherwise):
            return False
        put = {operation.key for operation in self.then if isinstance(operation, Put)}
        removed = {operation.key for operation in self.then if isinstance(operation, Delete)}
        return any(
            compare.key in put or (compare.key in removed and compare.version > 0)
            for compare in self.compares
            if isinstance(compare, VersionIs)
        )


def _size_bytes(part: Compare | Operation) -> int:
    match part:
        case Put(key, value):
            return len(key) + len(value)
        case DeleteRange(first, end):
            return len(first) + len(end)
        case _:
            return len(part.key)


def _check_writes_once(operations: tuple[Operation, ...]) -> None:
    puts = [operation.key for operation in operations if isinstance(operation, Put)]
    singles = puts + [operation.key for operation in operations if isinstance(operation, Delete)]
    if len(set(singles)) < len(singles):
        raise UsageError("a transaction writes each key once")
    for operation in operations:
        if isinstance(operation, DeleteRange):
            for key in puts:
                if operation.first <= key < operation.end:
                    raise UsageError(f"a transaction puts {key} and deletes a range with it")


@dataclass(frozen=True, slots=True)
class TxnResult:
    """The result of a transaction.

    Attributes:
        succeeded: True if the compares held and `then` was executed.
        revision: The store's revision after it.
        found: The answers to the `Get`s of the executed branch, in order.
    """

    succeeded: bool
    revision: int
    found: tuple[KeyValue | None, ...]


@dataclass(frozen=True, slots=True)
class StoreSnapshot:
    """Keys at one `revision`, in order. To follow them, watch from `revision + 1`."""

    revision: int
    items: tuple[KeyValue, ...]


@dataclass(frozen=True, slots=True)
class Written:
    """The event of a written key."""

    item: KeyValue

    @property
    def key(self) -> str:
        """The key."""
        return self.item.key

    @property
    def revision(self) -> int:
        """The revision of the transaction that wrote it."""
        return self.item.version


@dataclass(frozen=True, slots=True)
class Removed:
    """The event of a key that was deleted, or lost with its lease, at `revision`."""

    key: str
    revision: int


Event = Written | Removed
