"""A whole cluster within one event loop: leader, workers and a gateway's request router.

For tests, notebooks and laptops. The parts and the messages between them are those of a cluster of
many processes; only the channels are queues.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from sllmcore.types import ServerSpec
from sllmreal.control.heartbeat import LinkSettings
from sllmreal.control.leader_link import LeaderChannel, LeaderLink, PeerHandler
from sllmreal.control.messages import ReportedEvent
from sllmreal.leader.leader import Leader, LeaderSettings
from sllmreal.leader.log_records import EventLog
from sllmreal.router.router import RequestRouter
from sllmreal.router.worker_connections import WorkerChannel, WorkerConnections
from sllmreal.transport.channel import memory_pair
from sllmreal.transport.errors import ChannelClosedError
from sllmreal.worker.data_plane import DataPlane
from sllmreal.worker.worker import Worker


@dataclass(frozen=True, slots=True)
class LocalMember:
    """A server and the function that makes its worker.

    Args:
        server: The server.
        make: Makes the worker from its data plane and the function that reports its events.
    """

    server: ServerSpec
    make: Callable[[DataPlane, Callable[[ReportedEvent], None]], Worker]


class _LocalDial:
    """Connects to the leader and the workers within the event loop."""

    def __init__(self) -> None:
        self.leader: Leader | None = None
        self.planes: dict[str, DataPlane] = {}  # by address
        self._serving: set[asyncio.Task[None]] = set()

    async def dial_leader(self) -> LeaderChannel:
        if self.leader is None:
            raise ChannelClosedError("there is no leader")
        ours, theirs = memory_pair()
        task = asyncio.create_task(self.leader.serve_peer(theirs))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        return ours

    async def dial_worker(self, address: str) -> WorkerChannel:
        plane = self.planes.get(address)
        if plane is None:
            raise ChannelClosedError(f"no worker at {address}")
        return plane.connect()


@dataclass(slots=True)
class LocalCluster:
    """A cluster that is running, and its parts."""

    leader: Leader
    router: RequestRouter
    link: LeaderLink
    dial: _LocalDial
    settings: LinkSettings
    workers: list[Worker] = field(default_factory=list)

    @asynccontextmanager
    async def join(self, member: LocalMember) -> AsyncIterator[Worker]:
        """Have a server join; it leaves when the context ends."""
        server_id = member.server.id
        data_plane = DataPlane(f"memory:{server_id}")
        link = LeaderLink("worker", server_id, self.dial.dial_leader, self.settings)
        worker = member.make(data_plane, link.report)
        self.dial.planes[data_plane.address] = data_plane
        self.workers.append(worker)
        try:
            async with _attached(link, worker):
                yield worker
        finally:
            await worker.close()
            await data_plane.close()
            del self.dial.planes[data_plane.address]
            self.workers.remove(worker)


@asynccontextmanager
async def local_cluster(
    settings: LeaderSettings, log: EventLog, members: Sequence[LocalMember], term: int = 1
) -> AsyncIterator[LocalCluster]:
    """Run a cluster until the context ends. Its members have joined, in order, when it begins."""
    dial = _LocalDial()
    leader = Leader(settings, log, term)
    async with AsyncExitStack() as stack:
        leading = await stack.enter_async_context(leader.running())
        dial.leader = leader
        connections = WorkerConnections(dial.dial_worker)
        stack.push_async_callback(connections.close)
        link = LeaderLink("gateway", "gateway", dial.dial_leader, settings.link)
        router = connections.listener = RequestRouter(connections, link)
        await stack.enter_async_context(_attached(link, router))
        cluster = LocalCluster(
            leader=leader, router=router, link=link, dial=dial, settings=settings.link
        )
        for member in members:
            await stack.enter_async_context(cluster.join(member))
        yield cluster
        dial.leader = None
    if leading.done() and not leading.cancelled():
        leading.result()


@asynccontextmanager
async def _attached(link: LeaderLink, handler: PeerHandler) -> AsyncIterator[None]:
    task = asyncio.create_task(link.run(handler))
    waiting = asyncio.create_task(link.connected.wait())
    try:
        await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        yield
    finally:
        waiting.cancel()
        task.cancel()
        await asyncio.gather(task, waiting, return_exceptions=True)
