"""A log with a snapshot instead of its beginning: the snapshot is always whole, no line counts
twice.

Here a line is a number and a snapshot is the sum of the lines that it replaces, so that whatever a
leader leaves behind, the next one must find the same sum.

Seeded by hand and seen to fail: a truncation of one batch too many, or before the pointer has
moved; a snapshot that replaces one batch too many; a snapshot written over the present one; pieces
of a longer snapshot that stay; a pointer with a lost answer that is not looked up.
"""

import asyncio

import pytest

from sllmreal.store import JournalLog, MemoryStore, Store, campaign
from sllmreal.store.errors import (
    JournalGapError,
    LeaseLostError,
    OutcomeUnknownError,
    StoreUnavailableError,
)
from sllmreal.store.snapshots import PIECE_BYTES
from sllmreal.store.values import Delete, Put, Txn, TxnResult
from tests.store.conftest import Place

pytestmark = pytest.mark.asyncio


async def opened(store: Store, prefix: str = "log", leader: str = "leader") -> JournalLog:
    return await JournalLog.open(store, prefix, await campaign(store, leader, b"", 30.0))


async def total(log: JournalLog) -> int:
    """The state that the log gives: its snapshot and the lines behind it."""
    before = int((await log.snapshot() or b"0").split()[0])
    return before + sum([int(line) async for line in log.lines()])


def summed(number: int, size_bytes: int = 0) -> bytes:
    return f"{number} ".encode() + b"x" * size_bytes


async def keys(store: Store, prefix: str) -> list[str]:
    return [item.key for item in (await store.range(prefix)).items]


async def depose(store: Store, key: str = "leader") -> None:
    await store.txn(Txn((), (Delete(key),)))  # as at the end of its lease


async def test_a_snapshot_stands_for_the_lines_before(place: Place) -> None:
    prefix = place.key("log")
    log = await opened(place.store, prefix, place.key("leader"))
    batches = [await log.append([str(number)]) for number in range(6)]

    await log.compact(summed(0 + 1 + 2 + 3), batches[3])
    assert [line async for line in log.lines()] == ["4", "5"]
    await log.append(["6"])

    other = await place.another()
    heir = await JournalLog.open(other, prefix, log._leadership)
    assert await heir.snapshot() == summed(6)
    assert await total(heir) == sum(range(7))
    assert len(await keys(place.store, prefix)) == heir.num_keys == 3 + 1 + 2


async def test_one_snapshot_follows_another_and_nothing_else_stays(place: Place) -> None:
    prefix = place.key("log")
    log = await opened(place.store, prefix, place.key("leader"))
    sizes_bytes = (3 * PIECE_BYTES, 10, PIECE_BYTES, 0)
    for said, size_bytes in enumerate(sizes_bytes, start=1):
        await log.append(["1"])
        await log.compact(summed(said, size_bytes))

        assert await total(log) == said
        assert len(await keys(place.store, prefix)) == log.num_keys
    assert log.num_keys == 1 + 2


async def test_lines_that_come_while_a_snapshot_is_written_stay() -> None:
    store = MemoryStore()
    log = await opened(store)
    said = 0
    for number in range(20):
        batch = await log.append([str(number)])
        said += number
        compacting = asyncio.create_task(log.compact(summed(said, 2 * PIECE_BYTES), batch))
        for late in (100, 200):
            await log.append([str(late)])
            said += late
        await compacting

        assert await total(log) == said


async def test_the_stores_history_of_the_time_before_goes_too() -> None:
    store = MemoryStore()
    log = await opened(store)
    for _ in range(10):
        await log.append(["1"])

    await log.compact(summed(10))

    revisions = [event.revision for event in store._history._events]
    assert len(set(revisions)) == 1, "what came after the snapshot: the batches' end"


async def test_a_deposed_leader_cannot_put_a_snapshot_in_place(place: Place) -> None:
    key, prefix = place.key("leader"), place.key("log")
    old = await opened(place.store, prefix, key)
    await old.append(["1"])
    await depose(place.store, key)
    new = await opened(place.store, prefix, key)
    await new.append(["2"])

    with pytest.raises(LeaseLostError):
        await old.compact(summed(1), 0)
    assert await total(new) == 3
    await new.compact(summed(3))
    assert await total(new) == 3


class _Dying(MemoryStore):
    """A store whose client dies at one of its writes: before the write takes effect, or after."""

    def __init__(self) -> None:
        super().__init__()
        self.num_writes = 0
        self.dies_at: int | None = None
        self.after = False

    async def txn(self, txn: Txn) -> TxnResult:
        if txn.reads_only:
            return await super().txn(txn)
        self.num_writes += 1
        if self.num_writes == self.dies_at and not self.after:
            raise StoreUnavailableError("dead")
        result = await super().txn(txn)
        if self.num_writes == self.dies_at:
            await super().txn(Txn((), (Delete("leader"),)))
            raise StoreUnavailableError("dead")
        return result


@pytest.mark.parametrize("after", [False, True])
async def test_wherever_a_leader_dies_over_a_snapshot_the_next_one_finds_all(after: bool) -> None:
    deaths = 0
    for dies_at in range(1, 20):
        store = _Dying()
        log = await opened(store)
        batches = [await log.append(["1"]) for _ in range(4)]
        await log.compact(summed(2, 3 * PIECE_BYTES), batches[1])
        store.num_writes, store.dies_at, store.after = 0, dies_at, after
        try:
            await log.compact(summed(3, PIECE_BYTES), batches[2])
        except (StoreUnavailableError, LeaseLostError):
            deaths += 1
        store.dies_at = None
        await depose(store)
        heir = await opened(store)

        assert await total(heir) == 4
        await heir.append(["1"])
        await heir.compact(summed(5, 10))
        assert await total(heir) == 5
        assert len(await keys(store, "log")) == heir.num_keys == 3
    assert deaths >= 4, "two pieces, the pointer, the batches"


class _Forgetful(MemoryStore):
    """Loses the answer of every third write, before or after it took effect."""

    def __init__(self) -> None:
        super().__init__()
        self.num_writes = 0

    async def txn(self, txn: Txn) -> TxnResult:
        if txn.reads_only or any(isinstance(one, Put) and one.lease_id for one in txn.then):
            return await super().txn(txn)
        self.num_writes += 1
        if self.num_writes % 6 == 3:
            raise OutcomeUnknownError("lost on the way there")
        result = await super().txn(txn)
        if self.num_writes % 6 == 0:
            raise OutcomeUnknownError("lost on the way back")
        return result


async def test_lost_answers_do_no_harm_to_snapshots() -> None:
    store = _Forgetful()
    log = await opened(store)

    for number in range(1, 40):
        await log.append(["1"])
        if number % 3 == 0:
            await log.compact(summed(number, number % 7 * PIECE_BYTES // 2))

        assert await total(log) == number
    assert len(await keys(store, "log")) == log.num_keys


@pytest.mark.parametrize(
    "damage",
    [
        Delete("log/piece/0000000000000001/00000001"),
        Put("log/piece/0000000000000001/00000000", b"1 x"),
        Put("log/snapshot", b"no pointer"),
        Put("log/snapshot", b'{"number":1}'),
        Put("log/snapshot", b'{"number":1,"since":9,"pieces":0,"bytes":0,"crc32":0,"leader":1}'),
    ],
)
async def test_a_damaged_snapshot_is_not_read(damage: Put | Delete) -> None:
    store = MemoryStore()
    log = await opened(store)
    await log.append(["1"])
    await log.compact(summed(1, PIECE_BYTES + 1))

    await store.txn(Txn((), (damage,)))
    await depose(store)

    with pytest.raises(JournalGapError):
        await total(await opened(store))
