"""The contract of a store, tested on each store.

Seeded by hand and seen to fail: a compare on `created` instead of the version; a transaction that
raises the revision without writing; a lease that keeps its keys, or takes more after its end; a
watch that begins one revision later.
"""

import asyncio

import pytest

from sllmcore.errors import UsageError
from sllmreal.store.errors import (
    CompactedError,
    ConflictError,
    LeaseLostError,
    StoreUnavailableError,
)
from sllmreal.store.values import (
    CreatedIs,
    Delete,
    DeleteRange,
    Get,
    KeyValue,
    Put,
    Removed,
    Txn,
    VersionIs,
    Written,
)
from tests.store.conftest import Place, first_events

pytestmark = pytest.mark.asyncio


async def test_what_was_put_is_found_with_its_version(place: Place) -> None:
    key = place.key("a")

    first = await place.store.put(key, b"one")
    second = await place.store.put(key, b"two")

    assert second == first + 1
    assert await place.store.get(key) == KeyValue(key, b"two", second, first, None)
    assert await place.store.get(place.key("b")) is None


async def test_any_bytes_and_an_empty_value_come_back(place: Place) -> None:
    every_byte = bytes(range(256))

    await place.store.put(place.key("bytes"), every_byte)
    await place.store.put(place.key("empty"), b"")

    items = (await place.store.range(place.prefix)).items
    assert [item.value for item in items] == [every_byte, b""]


async def test_a_put_under_a_version_conflicts_after_another_write(place: Place) -> None:
    key = place.key("a")
    first = await place.store.put(key, b"one", if_version=0)
    second = await place.store.put(key, b"two", if_version=first)

    with pytest.raises(ConflictError) as late:
        await place.store.put(key, b"three", if_version=first)
    with pytest.raises(ConflictError):
        await place.store.put(key, b"four", if_version=0)

    assert late.value.found == second
    present = await place.store.get(key)
    assert present is not None
    assert present.value == b"two"


async def test_a_version_does_not_come_back_with_a_key(place: Place) -> None:
    key = place.key("a")
    first = await place.store.put(key, b"one")
    await place.store.txn(Txn((), (Delete(key),)))
    second = await place.store.put(key, b"one")

    with pytest.raises(ConflictError):
        await place.store.put(key, b"late", if_version=first)

    assert await place.store.get(key) == KeyValue(key, b"one", second, second, None)


async def test_a_transaction_does_one_branch_at_one_revision(place: Place) -> None:
    a, b, c = place.key("a"), place.key("b"), place.key("c")
    created = await place.store.put(a, b"1")
    txn = Txn(
        (CreatedIs(a, created), VersionIs(b, 0)),
        (Put(a, b"2"), Put(b, b"2"), Get(a), Delete(c)),
        (Get(a), Get(c), Put(c, b"3")),
    )

    done = await place.store.txn(txn)
    otherwise = await place.store.txn(txn)

    written = KeyValue(a, b"2", done.revision, created, None)
    assert (done.succeeded, done.found) == (True, (written,))
    assert (otherwise.succeeded, otherwise.found) == (False, (written, None))
    assert otherwise.revision == done.revision + 1
    items = (await place.store.range(place.prefix)).items
    assert [(item.key, item.value) for item in items] == [(a, b"2"), (b, b"2"), (c, b"3")]


async def test_a_transaction_that_changes_nothing_has_no_revision(place: Place) -> None:
    key = place.key("a")
    revision = await place.store.put(key, b"1")

    read = await place.store.txn(Txn((), (Get(key),)))
    empty = await place.store.txn(Txn((), (Delete(place.key("b")),)))

    assert read.revision == empty.revision == revision


async def test_a_range_is_in_order_and_in_pages(place: Place) -> None:
    names = ["a", "a/b", "a/c", "a0", "aa", "b"]
    for name in reversed(names):
        await place.store.put(place.key(name), name.encode())

    everything = await place.store.range(place.key("a"))
    page = await place.store.range(place.key("a"), after=place.key("a/b"), limit=2)

    assert [item.key for item in everything.items] == [place.key(name) for name in names[:5]]
    assert [item.key for item in page.items] == [place.key("a/c"), place.key("a0")]
    assert everything.revision == page.revision


async def test_a_range_longer_than_a_page_is_whole(place: Place) -> None:
    names = [f"k{number:04d}" for number in range(150)]
    for start in range(0, len(names), 100):
        puts = tuple(Put(place.key(name), b"") for name in names[start : start + 100])
        await place.store.txn(Txn((), puts))

    snapshot = await place.store.range(place.key("k"))

    assert [item.key for item in snapshot.items] == [place.key(name) for name in names]
    assert len((await place.store.range(place.key("k"), limit=140)).items) == 140


async def test_a_range_of_keys_is_deleted_up_to_its_end(place: Place) -> None:
    for name in ("a", "b", "c", "d"):
        await place.store.put(place.key(name), b"")

    result = await place.store.txn(Txn((), (DeleteRange(place.key("b"), place.key("d")),)))

    items = (await place.store.range(place.prefix)).items
    assert [item.key for item in items] == [place.key("a"), place.key("d")]
    events = await first_events(place.store, place.prefix, result.revision, 2)
    assert events == [Removed(place.key(name), result.revision) for name in ("b", "c")]


async def test_a_watch_gives_past_and_coming_events_in_order(place: Place) -> None:
    a, b = place.key("a"), place.key("b")
    first = await place.store.put(a, b"1")
    await place.store.put(f"not-{a}", b"elsewhere")
    watcher = asyncio.create_task(first_events(place.store, place.prefix, first, 4))
    await place.store.txn(Txn((), (Put(a, b"2"), Put(b, b"2"))))
    last = (await place.store.txn(Txn((), (Delete(a),)))).revision

    events = await watcher

    second = last - 1
    assert events == [
        Written(KeyValue(a, b"1", first, first, None)),
        Written(KeyValue(a, b"2", second, first, None)),
        Written(KeyValue(b, b"2", second, second, None)),
        Removed(a, last),
    ]


async def test_a_watch_from_a_snapshot_misses_nothing_of_many_writers(place: Place) -> None:
    async def write(writer: int) -> None:
        for number in range(25):
            await place.store.put(place.key(f"w{writer}"), str(number).encode())

    snapshot = await place.store.range(place.prefix)
    watcher = asyncio.create_task(
        first_events(place.store, place.prefix, snapshot.revision + 1, 100)
    )
    await asyncio.gather(*(write(writer) for writer in range(4)))

    events = await watcher

    revisions = [event.revision for event in events]
    assert revisions == sorted(set(revisions))
    for writer in range(4):
        values = [
            e.item.value for e in events if isinstance(e, Written) and e.key.endswith(str(writer))
        ]
        assert values == [str(number).encode() for number in range(25)]


async def test_forgotten_history_is_an_error_and_the_present_stays(place: Place) -> None:
    key = place.key("a")
    first = await place.store.put(key, b"1")
    second = await place.store.put(key, b"2")
    await place.store.compact(first)
    await place.store.compact(first)

    with pytest.raises(CompactedError) as forgotten:
        await first_events(place.store, place.prefix, first, 1)

    assert forgotten.value.oldest == second
    assert [e.revision for e in await first_events(place.store, place.prefix, second, 1)] == [
        second
    ]
    with pytest.raises(UsageError):
        await place.store.compact(second + 1000)


async def test_the_keys_of_a_lease_vanish_together(place: Place) -> None:
    lease = await place.store.lease(60.0)
    a, b, c = place.key("a"), place.key("b"), place.key("c")
    await place.store.txn(
        Txn((), (Put(a, b"", lease.id), Put(b, b"", lease.id), Put(c, b"", lease.id)))
    )
    attached = await place.store.get(a)
    last = await place.store.put(c, b"stays")

    await lease.keep_alive()
    await lease.revoke()
    await lease.revoke()

    assert attached is not None
    assert attached.lease_id == lease.id
    assert [item.key for item in (await place.store.range(place.prefix)).items] == [c]
    events = await first_events(place.store, place.prefix, last + 1, 2)
    assert events == [Removed(a, last + 1), Removed(b, last + 1)]


async def test_nothing_can_be_done_with_a_lease_that_has_ended(place: Place) -> None:
    lease = await place.store.lease(60.0)
    await lease.revoke()
    key = place.key("a")

    with pytest.raises(LeaseLostError):
        await lease.keep_alive()
    with pytest.raises(LeaseLostError):
        await place.store.put(key, b"", lease_id=lease.id)
    with pytest.raises(LeaseLostError):
        await place.store.txn(Txn((), (Put(key, b""), Put(place.key("b"), b"", lease.id))))

    assert await place.store.get(key) is None


async def test_a_lease_that_nobody_keeps_alive_ends_and_watchers_hear_of_it(place: Place) -> None:
    loop = asyncio.get_running_loop()
    started_s = loop.time()
    lease = await place.store.lease(0.2)
    revision = await place.store.put(place.key("a"), b"", lease_id=lease.id)

    events = await first_events(place.store, place.prefix, revision + 1, 1)

    assert events == [Removed(place.key("a"), revision + 1)]
    assert loop.time() - started_s >= lease.ttl_s
    with pytest.raises(LeaseLostError):
        await lease.keep_alive()


async def test_what_one_client_writes_the_others_see(place: Place) -> None:
    other = await place.another()
    revision = await place.store.put(place.key("a"), b"1")

    seen = await other.get(place.key("a"))
    events = await first_events(other, place.prefix, revision, 1)

    assert seen == KeyValue(place.key("a"), b"1", revision, revision, None)
    assert events == [Written(seen)]


async def test_the_largest_value_and_the_largest_transaction_are_taken(place: Place) -> None:
    largest = b"x" * (1 << 20)

    await place.store.put("k" * 512, largest)
    many = tuple(Put(place.key(f"k{number}"), b"") for number in range(128))
    await place.store.txn(Txn((), many))
    item = await place.store.get("k" * 512)

    assert item is not None
    assert item.value == largest
    await place.store.txn(Txn((), (Delete("k" * 512),)))


async def test_a_closed_store_says_so(place: Place) -> None:
    revision = await place.store.put(place.key("a"), b"1")
    watcher = asyncio.create_task(first_events(place.store, place.prefix, revision + 1, 1))
    await asyncio.sleep(0)

    await place.store.close()

    with pytest.raises(StoreUnavailableError):
        await watcher
    with pytest.raises(StoreUnavailableError):
        await place.store.get(place.key("a"))
    with pytest.raises(StoreUnavailableError):
        await place.store.put(place.key("a"), b"2")
