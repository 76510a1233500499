"""The memory store is deterministic with a manual clock."""

import asyncio
from contextlib import aclosing
from random import Random

import pytest

from sllmreal.store import MemoryStore
from sllmreal.store.clock import ManualClock
from sllmreal.store.errors import CompactedError, ConflictError, LeaseLostError
from sllmreal.store.values import Event, Removed

pytestmark = pytest.mark.asyncio


async def _played(seed: int) -> list[Event]:
    """Return all events of clients that compete, hold leases and let them lapse."""
    clock = ManualClock()
    store = MemoryStore(clock)
    events: list[Event] = []

    async def watch() -> None:
        async with aclosing(store.watch("", 1)) as stream:
            async for event in stream:
                events.append(event)  # noqa: PERF401 - as they come: it is cancelled

    async def play(number: int) -> None:
        rng = Random(f"{seed} {number}")
        lease = await store.lease(rng.uniform(0.5, 3.0))
        for _ in range(30):
            key = f"k{rng.randrange(3)}"
            item = await store.get(key)
            try:
                await store.put(
                    key,
                    str(number).encode(),
                    if_version=item.version if item else 0,
                    lease_id=lease.id if rng.random() < 0.3 else None,
                )
            except (ConflictError, LeaseLostError):
                clock.advance(0.1)

    watcher = asyncio.create_task(watch())
    await asyncio.gather(*(play(number) for number in range(5)))
    watcher.cancel()
    await store.close()
    return events


async def test_the_same_clients_see_the_same_events() -> None:
    first, second, other = await _played(1), await _played(1), await _played(2)

    assert first == second
    assert first != other
    assert any(isinstance(event, Removed) for event in first)


async def test_a_lease_ends_at_its_instant_and_not_before() -> None:
    clock = ManualClock()
    store = MemoryStore(clock)
    lease = await store.lease(2.0)
    await store.put("a", b"", lease_id=lease.id)

    clock.advance(1.5)
    await lease.keep_alive()
    clock.advance(1.999)
    before = await store.get("a")
    clock.advance(0.001)

    assert before is not None
    assert await store.get("a") is None


async def test_leases_end_in_the_order_of_their_deadlines() -> None:
    clock = ManualClock()
    store = MemoryStore(clock)
    for name, ttl_s in (("late", 3.0), ("early", 1.0), ("middle", 2.0)):
        lease = await store.lease(ttl_s)
        await store.put(name, b"", lease_id=lease.id)

    clock.advance(10.0)

    events = []
    async with aclosing(store.watch("", 4)) as stream:
        async for event in stream:
            events.append(event)
            if len(events) == 3:
                break
    assert events == [Removed("early", 4), Removed("middle", 5), Removed("late", 6)]


async def test_a_watcher_that_falls_behind_the_history_gets_an_error() -> None:
    store = MemoryStore(history_bytes=10_000)
    await store.put("a", b"")
    async with aclosing(store.watch("", 1)) as stream:
        await anext(stream)
        for _ in range(10):
            await store.put("a", bytes(2_000))

        with pytest.raises(CompactedError) as behind:
            await anext(stream)

    assert behind.value.oldest == 8
