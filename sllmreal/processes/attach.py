"""Attachment of a gateway's request router to the leader and the workers of its cluster."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sllmreal.control.leader_link import LeaderLink
from sllmreal.control.site import Site, leader_dial
from sllmreal.router.router import RequestRouter
from sllmreal.router.silence import SilenceLimits
from sllmreal.router.worker_connections import WorkerChannel, WorkerConnections
from sllmreal.transport.socket_channel import dial
from sllmreal.worker.data_plane import FromInstance


@dataclass(frozen=True, slots=True)
class AttachedGateway:
    """A request router and its link to the leader.

    Attributes:
        attached: The task of the link. It ends only by an error, which ends the gateway.
    """

    router: RequestRouter
    link: LeaderLink
    attached: "asyncio.Task[None]"


@asynccontextmanager
async def attached_gateway(
    site: Site, limits: SilenceLimits | None = None
) -> AsyncIterator[AttachedGateway]:
    """Attach a gateway, with a name of its own, to the site's cluster until the context ends."""
    key = site.key()

    async def dial_worker(address: str) -> WorkerChannel:
        return await dial(address, key, FromInstance)

    connections = WorkerConnections(dial_worker)
    link = LeaderLink("gateway", f"gateway-{secrets.token_hex(8)}", leader_dial(site))
    router = connections.listener = RequestRouter(connections, link, limits=limits)
    attached = asyncio.create_task(link.run(router))
    try:
        yield AttachedGateway(router, link, attached)
    finally:
        attached.cancel()
        await asyncio.gather(attached, return_exceptions=True)
        await connections.close()
