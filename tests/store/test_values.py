"""Arguments that a store refuses."""

import pytest

from sllmcore.errors import UsageError
from sllmreal.store import MemoryStore
from sllmreal.store.values import (
    Compare,
    CreatedIs,
    Delete,
    DeleteRange,
    Get,
    Operation,
    Put,
    Txn,
    VersionIs,
)


@pytest.mark.parametrize("key", ["", "a b", "a\n", "ä", "a\x00", "k" * 513, "a*"])
def test_a_key_has_a_fixed_alphabet_and_length(key: str) -> None:
    with pytest.raises(UsageError):
        Put(key, b"")
    with pytest.raises(UsageError):
        Get(key)
    with pytest.raises(UsageError):
        Delete(key)
    with pytest.raises(UsageError):
        VersionIs(key, 0)


def test_a_value_has_a_size() -> None:
    Put("a", bytes(1 << 20))

    with pytest.raises(UsageError, match="1048577"):
        Put("a", bytes((1 << 20) + 1))


@pytest.mark.parametrize(
    "operations",
    [
        (Put("a", b""), Put("a", b"")),
        (Put("a", b""), Delete("a")),
        (Put("b", b""), DeleteRange("a", "c")),
        (Put("a", bytes(700_000)), Put("b", bytes(700_000))),
        tuple(Get("a") for _ in range(129)),
    ],
)
def test_a_transaction_is_small_and_writes_each_key_once(operations: tuple[Operation, ...]) -> None:
    with pytest.raises(UsageError):
        Txn((), operations)
    with pytest.raises(UsageError):
        Txn((), (), operations)


def test_a_range_ends_behind_its_beginning() -> None:
    with pytest.raises(UsageError):
        DeleteRange("b", "b")


@pytest.mark.parametrize(
    ("compares", "then", "otherwise", "once"),
    [
        ((VersionIs("a", 3),), (Put("a", b""),), (), True),
        ((VersionIs("a", 0),), (Put("a", b""), Put("b", b"")), (Get("a"),), True),
        ((VersionIs("a", 3),), (Delete("a"),), (), True),
        ((VersionIs("a", 0),), (Delete("a"), Put("b", b"")), (), False),
        ((VersionIs("a", 3),), (Put("b", b""),), (), False),
        ((CreatedIs("a", 3),), (Put("a", b""),), (), False),
        ((VersionIs("a", 3),), (Put("a", b""),), (Put("b", b""),), False),
        ((), (Put("a", b""),), (), False),
    ],
)
def test_a_transaction_applies_once_if_its_success_falsifies_its_compare(
    compares: tuple[Compare, ...],
    then: tuple[Operation, ...],
    otherwise: tuple[Operation, ...],
    once: bool,
) -> None:
    assert Txn(compares, then, otherwise).applies_once is once


@pytest.mark.asyncio
async def test_calls_are_checked_before_they_are_made() -> None:
    store = MemoryStore()

    with pytest.raises(UsageError):
        await store.get("")
    with pytest.raises(UsageError):
        await store.range("a", limit=0)
    with pytest.raises(UsageError):
        await store.lease(0.0)
    with pytest.raises(UsageError):
        store.watch("a", 0)
