"""Finding the other processes of a cluster, and a gateway's desk attached to them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sllmreal.control.leader_link import LeaderLink
from sllmreal.control.site import Site, leader_dial
from sllmreal.router.router import RequestRouter
from sllmreal.router.worker_connections import WorkerChannel, WorkerConnections
from sllmreal.transport.socket_channel import dial
from sllmreal.worker.data_plane import FromInstance


@dataclass(frozen=True, slots=True)
class AttachedGateway:
    """A desk on its link. `attached` ends by an error only: the gateway is over then."""

    router: RequestRouter
    link: LeaderLink
    attached: "asyncio.Task[None]"


@asynccontextmanager
async def attached_gateway(site: Site) -> AsyncIterator[AttachedGateway]:
    """A gateway of the site's cluster until the context ends."""
    key = site.key()

    async def dial_worker(address: str) -> WorkerChannel:
        return await dial(address, key, FromInstance)

    plane = WorkerConnections(dial_worker)
    link = LeaderLink("gateway", "gateway", leader_dial(site))
    router = plane.listener = RequestRouter(plane, link)
    attached = asyncio.create_task(link.run(router))
    try:
        yield AttachedGateway(router, link, attached)
    finally:
        attached.cancel()
        await asyncio.gather(attached, return_exceptions=True)
        await plane.close()
