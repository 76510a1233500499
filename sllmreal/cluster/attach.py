"""Finding the other processes of a cluster, and a gateway's desk attached to them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from sllmreal.cluster.desk import RequestDesk
from sllmreal.cluster.home import LEADER_KEY
from sllmreal.cluster.peer import LeaderChannel, LeaderLink
from sllmreal.cluster.plane import GatewayPlane, WorkerChannel
from sllmreal.protocol.errors import ChannelClosedError
from sllmreal.protocol.messages import FromLeader
from sllmreal.protocol.socket_channel import dial
from sllmreal.store.errors import StoreUnavailableError
from sllmreal.worker.data_plane import FromInstance

_ETCD = "etcd:"


class Site(Protocol):
    """What a process has to know of its cluster: a `Home`, or what it was told elsewhere."""

    @property
    def leader(self) -> str:
        """The leader's address, or `etcd:HOST:PORT,HOST:PORT,...`, a store that knows it."""
        ...

    def key(self) -> bytes:
        """The cluster's."""
        ...

    def worker(self, server_id: str) -> str:
        """Where that server's data plane is to listen."""
        ...


@dataclass(frozen=True, slots=True)
class AttachedGateway:
    """A desk on its link. `attached` ends by an error only: the gateway is over then."""

    desk: RequestDesk
    link: LeaderLink
    attached: "asyncio.Task[None]"


def leader_dial(site: Site) -> Callable[[], Awaitable[LeaderChannel]]:
    """Connects to whoever leads the site's cluster."""
    key = site.key()

    async def dial_leader() -> LeaderChannel:
        address = site.leader
        if address.startswith(_ETCD):
            address = await _published(address.removeprefix(_ETCD).split(","))
        return await dial(address, key, FromLeader)

    return dial_leader


async def _published(nodes: list[str]) -> str:
    from sllmreal.store.etcd import EtcdStore  # needs grpc

    try:
        store = await EtcdStore.open(nodes)
        try:
            found = await store.get(LEADER_KEY)
        finally:
            await store.close()
    except StoreUnavailableError as error:
        raise ChannelClosedError(f"the store cannot say who leads: {error}") from error
    if found is None:
        raise ChannelClosedError("nobody leads")
    return found.value.decode()


@asynccontextmanager
async def attached_gateway(site: Site) -> AsyncIterator[AttachedGateway]:
    """A gateway of the site's cluster until the context ends."""
    key = site.key()

    async def dial_worker(address: str) -> WorkerChannel:
        return await dial(address, key, FromInstance)

    plane = GatewayPlane(dial_worker)
    link = LeaderLink("gateway", "gateway", leader_dial(site))
    desk = plane.listener = RequestDesk(plane, link)
    attached = asyncio.create_task(link.run(desk))
    try:
        yield AttachedGateway(desk, link, attached)
    finally:
        attached.cancel()
        await asyncio.gather(attached, return_exceptions=True)
        await plane.close()
