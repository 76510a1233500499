"""The three stores, each as a `Place` with several clients."""

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from experiments.benchmarks.store.etcd_cluster import ETCD, EtcdCluster
from sllmreal.store import MemoryStore, Store
from sllmreal.store.sqlite import SqliteStore
from sllmreal.store.values import Event

_NUMBERS = itertools.count()


@dataclass(frozen=True, slots=True)
class Place:
    """A store, and a prefix in it that no other test uses.

    Attributes:
        another: Opens a further client: with a connection of its own, if the store has connections.
    """

    kind: str
    store: Store
    prefix: str
    another: Callable[[], Awaitable[Store]]

    def key(self, name: str) -> str:
        """Return a key of this test."""
        return self.prefix + name


async def first_events(store: Store, prefix: str, from_revision: int, count: int) -> list[Event]:
    """Wait for `count` events and return them."""
    events: list[Event] = []
    async with aclosing(store.watch(prefix, from_revision)) as stream:
        async for event in stream:
            events.append(event)
            if len(events) == count:
                break
    return events


@pytest.fixture(scope="session")
def etcd_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    """The node for all tests of this process that break nothing."""
    if ETCD is None:
        pytest.skip("etcd is not installed (Debian: etcd-server)")
    with EtcdCluster(tmp_path_factory.mktemp("etcd"), 1) as node:
        yield node


@pytest_asyncio.fixture(params=["memory", "sqlite", "etcd"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    """Each of the three stores."""
    async with AsyncExitStack() as stack:

        async def opened(store: Store) -> Store:
            stack.push_async_callback(store.close)
            return store

        async def etcd() -> Store:
            from sllmreal.store.etcd import EtcdStore

            node: EtcdCluster = request.getfixturevalue("etcd_node")
            return await opened(await EtcdStore.open(node.addresses))

        if request.param == "etcd":
            store = await etcd()
        elif request.param == "sqlite":
            store = await opened(await SqliteStore.open(tmp_path / "store.db"))
        else:
            store = await opened(MemoryStore())

        async def same() -> Store:
            return store

        another = etcd if request.param == "etcd" else same
        yield Place(request.param, store, f"test{next(_NUMBERS)}/", another)
