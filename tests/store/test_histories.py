"""Histories of concurrent clients: they could have come from one atomic store.

Seeded by hand and seen to fail: a `get` of the memory store that answers what the twelfth one
before it found; a compare that always holds.
"""

import asyncio
from collections.abc import Sequence
from itertools import pairwise
from random import Random

import pytest

from sllmreal.store import KeptLease, Store
from sllmreal.store.errors import ConflictError, OutcomeUnknownError
from sllmreal.store.values import Put, Txn, VersionIs
from tests.store.conftest import Place
from tests.store.linearizability import Call, Outcome, Read, Swap, linearizable

CLIENTS = 6


def test_the_checker_takes_what_an_atomic_register_can_do() -> None:
    overlapping: list[Call] = [
        Swap(0, 10, 0, 1, Outcome.DONE),
        Read(1, 2, 0),
        Read(3, 4, 1),
        Swap(5, 6, 1, 2, Outcome.UNKNOWN),
        Read(7, 8, 1),
        Read(20, 21, 2),
        Swap(30, 31, 1, 5, Outcome.REFUSED),
    ]

    assert linearizable(overlapping, 0)


@pytest.mark.parametrize(
    "history",
    [
        [Swap(0, 1, 0, 1, Outcome.DONE), Read(2, 3, 0)],  # a stale read
        [Swap(0, 9, 0, 1, Outcome.DONE), Read(1, 2, 1), Read(3, 4, 0)],  # back in time
        [Swap(0, 1, 0, 1, Outcome.DONE), Swap(0, 1, 0, 2, Outcome.DONE)],  # both won
        [Swap(0, 1, 0, 1, Outcome.REFUSED)],  # refused for nothing
        [Read(0, 1, 7)],  # never written
        [Read(0, 1, 7), Swap(2, 3, 0, 7, Outcome.UNKNOWN)],  # before it began
    ],
)
def test_the_checker_refuses_what_it_cannot(history: Sequence[Call]) -> None:
    assert not linearizable(history, 0)


async def _play(store: Store, key: str, rng: Random, calls: list[Call]) -> None:
    """Read and increment a register by compare, each client at its own pace."""
    now_s = asyncio.get_running_loop().time
    for _ in range(12):
        began_at = now_s()
        item = await store.get(key)
        assert item is not None
        value = int(item.value)
        calls.append(Read(began_at, now_s(), value))
        if rng.random() < 0.5:
            continue
        wanted = rng.randrange(10**9)
        began_at = now_s()
        try:
            await store.put(key, str(wanted).encode(), if_version=item.version)
            outcome = Outcome.DONE
        except ConflictError:
            outcome = Outcome.REFUSED
        except OutcomeUnknownError:
            outcome = Outcome.UNKNOWN
        calls.append(Swap(began_at, now_s(), value, wanted, outcome))


@pytest.mark.asyncio
async def test_a_register_under_many_clients_is_linearizable(place: Place) -> None:
    for seed in range(3):
        key = place.key(f"register{seed}")
        await place.store.put(key, b"0")
        stores = [await place.another() for _ in range(CLIENTS)]
        calls: list[Call] = []

        await asyncio.gather(
            *(_play(store, key, Random(f"{seed} {n}"), calls) for n, store in enumerate(stores))
        )

        assert sum(isinstance(c, Swap) and c.outcome is Outcome.DONE for c in calls) > 5
        assert linearizable(calls, 0)


@pytest.mark.asyncio
async def test_increments_by_compare_are_never_lost_nor_doubled(place: Place) -> None:
    key = place.key("counter")
    first = await place.store.put(key, b"0")

    async def increment(store: Store) -> list[int]:
        versions: list[int] = []
        while len(versions) < 20:
            item = await store.get(key)
            assert item is not None
            try:
                value = str(int(item.value) + 1).encode()
                versions.append(await store.put(key, value, if_version=item.version))
            except ConflictError:
                continue
        return versions

    stores = [await place.another() for _ in range(CLIENTS)]
    versions = await asyncio.gather(*(increment(store) for store in stores))

    item = await place.store.get(key)
    assert item is not None
    assert item.value == b"120"
    everyone = sorted(version for mine in versions for version in mine)
    assert everyone == list(range(first + 1, first + 121))
    assert all(mine == sorted(mine) for mine in versions)


@pytest.mark.asyncio
async def test_a_key_on_a_lease_is_held_by_one_at_a_time(place: Place) -> None:
    """Each holder records when it had the key, by the store's revisions: no two overlap."""
    key = place.key("lock")
    holds: list[tuple[int, int]] = []

    async def hold(store: Store) -> None:
        num_holds = 0
        while num_holds < 4:
            lease = await store.lease(60.0)
            take = Txn((VersionIs(key, 0),), (Put(key, b"", lease.id),))
            taken = await store.txn(take)
            if not taken.succeeded:
                await lease.revoke()
                continue
            num_holds += 1
            last = await store.put(place.key("work"), b"")
            holds.append((taken.revision, last))
            await lease.revoke()

    stores = [await place.another() for _ in range(CLIENTS)]
    await asyncio.gather(*(hold(store) for store in stores))

    ordered = sorted(holds)
    assert len(ordered) == 4 * CLIENTS
    assert all(end < begin for (_, end), (begin, _) in pairwise(ordered))


@pytest.mark.asyncio
async def test_a_kept_lease_outlives_its_ttl_and_ends_when_closed(place: Place) -> None:
    loop = asyncio.get_running_loop()
    kept = await KeptLease(place.store, 0.3).start()
    lease_ends_at_s = loop.time() + (2.0 if place.kind == "etcd" else 0.3)
    await place.store.put(place.key("a"), b"", lease_id=kept.id)

    await asyncio.sleep(1.25 * (lease_ends_at_s - loop.time()))
    lived = await place.store.get(place.key("a"))
    await kept.close()

    assert lived is not None
    assert kept.lost.is_set()
    assert await place.store.get(place.key("a")) is None
