"""Finding the other processes of a cluster, and a gateway's desk attached to them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sllmreal.cluster.desk import RequestDesk
from sllmreal.cluster.home import Home
from sllmreal.cluster.peer import LeaderChannel, LeaderLink
from sllmreal.cluster.plane import GatewayPlane, WorkerChannel
from sllmreal.protocol.channel import dial
from sllmreal.protocol.messages import FromLeader
from sllmreal.worker.data_plane import FromInstance


@dataclass(frozen=True, slots=True)
class AttachedGateway:
    """A desk on its link. `attached` ends by an error only: the gateway is over then."""

    desk: RequestDesk
    link: LeaderLink
    attached: "asyncio.Task[None]"


def leader_dial(home: Home) -> Callable[[], Awaitable[LeaderChannel]]:
    """Connects to whoever leads the cluster at `home`."""
    key = home.key()

    async def dial_leader() -> LeaderChannel:
        return await dial(home.leader, key, FromLeader)

    return dial_leader


@asynccontextmanager
async def attached_gateway(home: Home) -> AsyncIterator[AttachedGateway]:
    """A gateway of the cluster at `home` until the context ends."""
    key = home.key()

    async def dial_worker(address: str) -> WorkerChannel:
        return await dial(address, key, FromInstance)

    plane = GatewayPlane(dial_worker)
    link = LeaderLink("gateway", "gateway", leader_dial(home))
    desk = plane.listener = RequestDesk(plane, link)
    attached = asyncio.create_task(link.run(desk))
    try:
        yield AttachedGateway(desk, link, attached)
    finally:
        attached.cancel()
        await asyncio.gather(attached, return_exceptions=True)
        await plane.close()
