"""Finding the leader from other machines, and bounds on unauthenticated connections."""

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sllmcore.errors import UsageError
from sllmreal.control.home import LEADER_KEY, Home, opened_home
from sllmreal.control.messages import FromPeer, ReportsLogged
from sllmreal.control.site import leader_dial
from sllmreal.processes.leader import leader_place
from sllmreal.transport.addresses import host_and_port, tcp_address
from sllmreal.transport.errors import ChannelClosedError
from sllmreal.transport.socket_channel import MAX_UNAUTHENTICATED, SocketChannel, dial, listening

pytestmark = pytest.mark.asyncio
KEY = b"k" * 32


@dataclass
class FixedSite:
    """A `Site` with a fixed leader."""

    leader: str

    def key(self) -> bytes:
        return KEY

    def worker(self, server_id: str) -> str:
        raise NotImplementedError(server_id)


class FakeLeader:
    """Counts connections."""

    def __init__(self) -> None:
        self.num_connections = 0

    async def serve(self, channel: SocketChannel[Any, Any]) -> None:
        self.num_connections += 1
        channel.post(ReportsLogged(1))


@pytest.fixture
def home() -> Iterator[Home]:
    with tempfile.TemporaryDirectory() as directory:  # short: sockets lie in it
        yield opened_home(Path(directory) / "h")


async def test_a_home_has_the_address_that_its_leader_published(home: Home) -> None:
    assert home.leader == home.leader_socket

    home.publish_leader(leader_place(home, "sqlite", "tcp:10.0.0.1:8344"))
    assert home.leader == "tcp:10.0.0.1:8344"
    home.publish_leader(leader_place(home, "etcd:a:1,b:2", "tcp:10.0.0.1:8344"))
    assert home.leader == "etcd:a:1,b:2"
    home.publish_leader(leader_place(home, "sqlite", None))
    assert home.leader == home.leader_socket


async def test_a_leader_with_a_changing_port_is_refused(home: Home) -> None:
    with pytest.raises(UsageError, match="port is fixed"):
        leader_place(home, "sqlite", "tcp:10.0.0.1:0")


async def test_an_address_may_be_of_ipv6() -> None:
    assert tcp_address("::1", 8344) == "tcp:[::1]:8344"
    assert host_and_port("tcp:[::1]:8344") == ("::1", 8344)


@pytest.mark.skipif(shutil.which("etcd") is None, reason="needs etcd")
async def test_the_present_leaders_address_comes_from_the_store(tmp_path: Path) -> None:
    """Seeded bug: the address is looked up only once."""
    etcd_cluster = pytest.importorskip("experiments.benchmarks.store.etcd_cluster")
    from sllmreal.store.etcd import EtcdStore

    leaders = [FakeLeader(), FakeLeader()]
    with etcd_cluster.EtcdCluster(tmp_path, 1) as cluster:
        async with AsyncExitStack() as stack:
            store = await EtcdStore.open(cluster.addresses)
            stack.push_async_callback(store.close)
            dial_leader = leader_dial(FixedSite(f"etcd:{','.join(cluster.addresses)}"))
            with pytest.raises(ChannelClosedError, match="has no leader"):
                await dial_leader()
            for leader in leaders:
                at = listening("tcp:127.0.0.1:0", KEY, FromPeer, leader.serve)
                await store.put(LEADER_KEY, (await stack.enter_async_context(at)).encode())

                channel = await dial_leader()

                assert await channel.receive() == ReportsLogged(1)
                channel.close()

    assert [leader.num_connections for leader in leaders] == [1, 1]


async def test_unauthenticated_connections_are_bounded_and_end() -> None:
    """Seeded bug: unauthenticated connections that have ended still count."""
    leader = FakeLeader()
    async with listening("tcp:127.0.0.1:0", KEY, FromPeer, leader.serve) as address:
        unauthenticated = [
            await asyncio.open_connection(*host_and_port(address))
            for _ in range(MAX_UNAUTHENTICATED)
        ]

        with pytest.raises(ChannelClosedError):
            await dial(address, KEY, FromPeer)
        for _, writer in unauthenticated:
            writer.close()
            await writer.wait_closed()
        async with asyncio.timeout(10):
            while not leader.num_connections:
                try:
                    (await dial(address, KEY, FromPeer)).close()
                except ChannelClosedError:
                    continue  # the server has not noticed yet that they are gone

    assert leader.num_connections == 1
