"""At most one leader at a time; a deposed leader's writes are refused.

Seeded by hand and seen to fail: `guarded` without its compare; a compare on the key's version
instead of `created`; a standby that watches from one revision too late (it waits for ever).
"""

import asyncio
from contextlib import suppress

import pytest

from sllmreal.store import Leadership, MemoryStore, campaign
from sllmreal.store.clock import ManualClock
from sllmreal.store.errors import LeaseLostError
from sllmreal.store.values import Delete, Get, Put, Txn, VersionIs
from tests.store.conftest import Place

pytestmark = pytest.mark.asyncio


async def test_the_standby_leads_when_the_leader_resigns(place: Place) -> None:
    key = place.key("leader")
    first = await campaign(place.store, key, b"one", 30.0)
    standby = asyncio.create_task(campaign(await place.another(), key, b"two", 30.0))
    await first.guarded((), (Put(place.key("a"), b"one"),))
    assert not standby.done()

    await first.resign()
    second = await standby

    assert second.fencing > first.fencing
    leader = await place.store.get(key)
    assert leader is not None
    assert (leader.value, leader.created) == (b"two", second.fencing)
    await second.resign()


async def test_a_deposed_leader_writes_nothing(place: Place) -> None:
    key, work = place.key("leader"), place.key("work")
    first = await campaign(place.store, key, b"one", 30.0)
    await place.store.txn(Txn((), (Delete(key),)))  # as at the end of its lease
    second = await campaign(place.store, key, b"two", 30.0)
    await second.guarded((), (Put(work, b"two"),))
    assert not first.lost.is_set()

    with pytest.raises(LeaseLostError):
        await first.guarded((), (Put(work, b"one"),))
    with pytest.raises(LeaseLostError):
        await first.guarded((VersionIs(work, 0),), (Put(work, b"one"),), (Get(work),))

    assert first.lost.is_set()
    item = await place.store.get(work)
    assert item is not None
    assert item.value == b"two"
    await first.resign()
    await second.guarded((), (Put(work, b"still two"),))
    await second.resign()


async def test_a_leader_rewriting_its_own_key_still_leads(place: Place) -> None:
    key = place.key("leader")
    leadership = await campaign(place.store, key, b"old address", 30.0)
    present = await place.store.get(key)
    assert present is not None
    await place.store.put(key, b"new address", lease_id=present.lease_id)

    result = await leadership.guarded((), (Put(place.key("a"), b""),))

    assert result.succeeded
    await leadership.resign()


async def test_a_guarded_compare_that_fails_is_no_loss_of_leadership(place: Place) -> None:
    leadership = await campaign(place.store, place.key("leader"), b"", 30.0)
    work = place.key("work")
    revision = await place.store.put(work, b"1")

    result = await leadership.guarded(
        (VersionIs(work, revision + 7),), (Put(work, b"2"),), (Get(work),)
    )

    assert not result.succeeded
    assert [item.value for item in result.found if item] == [b"1"]
    assert not leadership.lost.is_set()
    await leadership.resign()


async def test_of_many_candidates_one_leads_at_a_time(place: Place) -> None:
    key = place.key("leader")
    leading: list[Leadership] = []
    fencing: list[int] = []

    async def candidate(number: int) -> None:
        leadership = await campaign(await place.another(), key, str(number).encode(), 30.0)
        leading.append(leadership)
        assert leading == [leadership]
        fencing.append(leadership.fencing)
        await leadership.guarded((), (Put(place.key("work"), b""),))
        leading.remove(leadership)
        await leadership.resign()

    await asyncio.gather(*(candidate(number) for number in range(6)))

    assert fencing == sorted(set(fencing))
    assert len(fencing) == 6


async def test_a_candidate_that_stops_waiting_leaves_nothing(place: Place) -> None:
    key = place.key("leader")
    first = await campaign(place.store, key, b"one", 30.0)
    standby = asyncio.create_task(campaign(place.store, key, b"two", 30.0))
    await first.guarded((), (Put(place.key("a"), b""),))

    standby.cancel()
    with suppress(asyncio.CancelledError):
        await standby
    await first.resign()

    assert (await place.store.range(key)).items == ()


async def test_a_leader_that_is_silent_for_its_ttl_is_replaced() -> None:
    """With a manual clock: the leader's process sleeps through its keep-alives."""
    clock = ManualClock()
    asleep = ManualClock()
    store = MemoryStore(clock)
    first = await campaign(store, "leader", b"one", 2.0, asleep)
    standby = asyncio.create_task(campaign(store, "leader", b"two", 2.0, clock))
    await store.get("leader")
    await store.get("leader")

    clock.advance(1.999)
    await store.get("leader")
    assert not standby.done()
    clock.advance(0.001)
    second = await standby

    assert not first.lost.is_set()
    with pytest.raises(LeaseLostError):
        await first.guarded((), (Put("work", b"one"),))
    await first.resign()
    await second.resign()
    await store.close()


async def test_a_leader_cut_off_knows_it_before_its_lease_ends() -> None:
    clock = ManualClock()
    store = MemoryStore(clock)
    leadership = await campaign(store, "leader", b"one", 3.0, clock)
    await store.close()  # no keep-alive succeeds any more

    for _ in range(29):
        clock.advance(0.1)
        await asyncio.sleep(0)
    early = leadership.lost.is_set()
    clock.advance(0.1)

    assert not early
    assert leadership.lost.is_set()
    await leadership.resign()
