"""The leader: one controller, its log, and the peers that carry its commands out.

Whoever holds the lease runs one of these. It reads the log, waits for the peers to come back, and
goes on. A worker or gateway whose connection stays away for `grace_s` is declared lost.
"""

import asyncio
import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import msgspec

from sllmcore.build import PolicySettings, build_controller
from sllmcore.errors import UsageError
from sllmcore.events import (
    Event,
    InferenceStopped,
    MigrationFailed,
    ModelDeleted,
    ModelDeployed,
    RequestCancelled,
    ServerJoined,
    ServerLost,
)
from sllmcore.journal import header_line
from sllmreal.control.deployment import ModelDeployment
from sllmreal.control.heartbeat import Heartbeat, LinkSettings
from sllmreal.control.messages import (
    VERSION,
    DeleteModel,
    DeployedModels,
    DeployModel,
    EventReport,
    FromPeer,
    GetStatus,
    Hello,
    OrdersExecuted,
    ReportsLogged,
    Reset,
    Welcome,
    WorkerAddresses,
    reported_event,
)
from sllmreal.leader.control_loop import Compaction, ControlLoop
from sllmreal.leader.log_records import JOINED, LOST, EventLog, ReportId
from sllmreal.leader.operator_requests import answer
from sllmreal.leader.peers import PeerChannel, PeerState, PeerTable
from sllmreal.streams.host_io import HostOptions
from sllmreal.transport.errors import ChannelClosedError


@dataclass(frozen=True, slots=True)
class LeaderSettings:
    """How the leader treats its peers.

    Args:
        policy: The controller's.
        seed: Of the policy's chance.
        grace_s: How long a peer may be away before it is declared lost.
        orphan_s: After which nothing runs any more of the requests of a gateway that is lost.
        link: Heartbeats.
        compaction: When snapshots take the place of the log's entries; None: never.
    """

    policy: PolicySettings = field(default_factory=PolicySettings)
    seed: int = 0
    grace_s: float = 2.0
    orphan_s: float = 1.2 * HostOptions().lease_s  # hosts have dropped its streams by then
    link: LinkSettings = field(default_factory=LinkSettings)
    compaction: Compaction | None = field(default_factory=Compaction)

    def __post_init__(self) -> None:
        if self.grace_s <= 0 or self.orphan_s <= 0:
            raise UsageError(f"grace_s and orphan_s must be positive, got {self}")


class Leader:
    """Leads from `running` on. `term` grows from leader to leader: peers refuse a lower one."""

    def __init__(
        self,
        settings: LeaderSettings,
        log: EventLog,
        term: int,
    ) -> None:
        self.peer_table = PeerTable()
        rng = random.Random(f"{settings.seed}/policy")  # noqa: S311 - as a simulation draws
        controller = build_controller(settings.policy, rng)
        header = header_line(settings.policy, settings.seed)
        self.loop = ControlLoop(controller, log, self.peer_table, header, settings.compaction)
        self._settings = settings
        self.term = term
        self._goodbyes: dict[str, asyncio.TimerHandle] = {}
        self._burials: set[asyncio.TimerHandle] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["asyncio.Task[None]"]:
        """Recover, then lead. The task that is yielded ends only by an error: deposed, or worse."""
        found = await self.loop.recover()
        if found.foreign:
            sys.stderr.write(
                "leader: the log is by another version of the code: requests and instances begin "
                "anew, models stay deployed\n"
            )
        for peer in self.peer_table.peers.values():
            if not peer.lost:
                self._expect_back(peer)
        if orphans := self.peer_table.orphans():
            self._bury_later(orphans)
        task = asyncio.create_task(self.loop.run())
        try:
            yield task
        finally:
            task.cancel()
            self.loop.close()
            for timer in (*self._goodbyes.values(), *self._burials):
                timer.cancel()
            for peer in self.peer_table.peers.values():
                if peer.channel is not None:
                    peer.channel.close()

    # Models.

    def deploy(self, spec: ModelDeployment) -> None:
        """Serve a model. Raises UsageError when one of that name is deployed already."""
        if spec.name in self.peer_table.deployed:
            raise UsageError(f"model {spec.name} is deployed already")
        self.loop.tell(ModelDeployed(spec.checkpoint, spec.num_slots), model=spec)
        self.peer_table.broadcast(DeployedModels(self.models()))

    def delete(self, name: str) -> None:
        """Take no more requests for a model. Raises UsageError when there is none."""
        if name not in self.peer_table.deployed:
            raise UsageError(f"no model {name} is deployed")
        self._tell(ModelDeleted(name))
        self.peer_table.broadcast(DeployedModels(self.models()))

    def models(self) -> tuple[ModelDeployment, ...]:
        """What is deployed."""
        return tuple(self.peer_table.deployed.values())

    def _workers(self) -> WorkerAddresses:
        """Those that are there, or expected back: what is known of where they listen."""
        workers = [one for one in self.peer_table.peers.values() if one.kind == "worker"]
        return WorkerAddresses(
            tuple(one.address for one in workers if one.address and not one.lost)
        )

    # Peers.

    async def serve_peer(self, channel: PeerChannel) -> None:
        """Talk with one peer, or one operator's command, until its connection ends."""
        try:
            async with asyncio.timeout(self._settings.link.silence_s):
                message = await channel.receive()
            if isinstance(message, Hello):
                await self._serve_hello(message, channel)
            while isinstance(message, DeployModel | DeleteModel | GetStatus):
                channel.post(await answer(self, message))
                message = await channel.receive()
        except (ChannelClosedError, TimeoutError):
            return
        finally:
            channel.close()

    async def _serve_hello(self, hello: Hello, channel: PeerChannel) -> None:
        peer = self._greeted(hello, channel)
        if peer is None:
            return
        pulse = Heartbeat(self._settings.link, channel, partial(self._say, peer, channel))
        try:
            async with pulse.beating():
                while True:
                    message = await channel.receive()
                    pulse.heard()
                    self._take(peer, message)
        finally:
            if peer.channel is channel:
                peer.channel = None
                self._expect_back(peer)

    def _say(self, peer: PeerState, channel: PeerChannel) -> None:
        """What nobody waits for."""
        channel.post(ReportsLogged(peer.last_durable))
        if peer.kind == "gateway":
            channel.post(self.loop.state.tally.message())

    def _take(self, peer: PeerState, message: FromPeer) -> None:
        match message:
            case EventReport():
                self._hear(peer, message)
            case OrdersExecuted(last_order):
                self.peer_table.executed(peer, last_order)
            case _:
                raise ChannelClosedError("a peer reports, and says nothing else")

    def _greeted(self, hello: Hello, channel: PeerChannel) -> PeerState | None:
        """Attach a peer; None when it has to come back as another incarnation."""
        if hello.version != VERSION:
            raise ChannelClosedError(f"version {VERSION} is spoken here, not {hello.version}")
        peer = self.peer_table.peers.get(hello.peer_id)
        if peer is None or peer.incarnation != hello.incarnation:
            if not hello.fresh:
                channel.post(Reset("what it has done is not known here"))
                return None
            if peer is not None and not peer.lost:
                self._declare_lost(peer)
            peer = self._joined(hello)
        elif peer.lost:
            channel.post(Reset("it was away for too long"))
            return None
        if peer.channel is not None:
            peer.channel.close()
        self._say_no_goodbye(peer)
        peer.channel = channel
        zero_at_s = self.loop.clock.zero_at_s
        channel.post(Welcome(self.term, peer.last_durable, zero_at_s))
        if peer.kind == "gateway":
            channel.post(DeployedModels(self.models()))
            channel.post(self._workers())
        else:
            self.peer_table.broadcast(self._workers())
        self.peer_table.resend(peer, hello.last_order)
        return peer

    def _joined(self, hello: Hello) -> PeerState:
        if hello.kind == "worker":
            if hello.offer is None or hello.offer.server.id != hello.peer_id:
                raise ChannelClosedError("a worker offers its own server")
            event = ServerJoined(hello.offer.server, hello.offer.resident)
            origin = ReportId(hello.peer_id, hello.incarnation, JOINED)
            self.loop.tell(event, origin, address=hello.offer.address)
            return self.peer_table.peers[hello.peer_id]
        return self.peer_table.join(hello.peer_id, "gateway", hello.incarnation)

    def _hear(self, peer: PeerState, message: EventReport) -> None:
        if message.number != peer.last_report + 1:
            if message.number <= peer.last_report:
                return  # heard before
            raise ChannelClosedError(f"report {message.number} after {peer.last_report}")
        try:
            event = reported_event(message)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ChannelClosedError(f"a malformed report: {error}") from error
        self._tell(event, ReportId(peer.id, peer.incarnation, message.number))

    def _expect_back(self, peer: PeerState) -> None:
        """Declare a peer lost unless it comes back in time."""
        loop = asyncio.get_running_loop()
        goodbye = loop.call_later(self._settings.grace_s, lambda: self._declare_lost(peer))
        self._goodbyes[peer.id] = goodbye

    def _say_no_goodbye(self, peer: PeerState) -> None:
        goodbye = self._goodbyes.pop(peer.id, None)
        if goodbye is not None:
            goodbye.cancel()

    def _declare_lost(self, peer: PeerState) -> None:
        self._say_no_goodbye(peer)
        origin = ReportId(peer.id, peer.incarnation, LOST)
        if peer.kind == "worker":
            self._tell(ServerLost(peer.id), origin)
            self.peer_table.broadcast(self._workers())
        else:
            for request_id in self.peer_table.open_requests(peer):
                self._tell(RequestCancelled(request_id), origin)
            peer.lost = True
            if orphans := self.peer_table.open_requests(peer):
                self._bury_later(orphans)

    def _bury_later(self, request_ids: list[str]) -> None:
        """Nobody is left who could say when what runs of these requests has ended."""

        def bury() -> None:
            self._burials.discard(timer)
            for request_id in request_ids:
                self._bury(request_id)

        timer = asyncio.get_running_loop().call_later(self._settings.orphan_s, bury)
        self._burials.add(timer)

    def _bury(self, request_id: str) -> None:
        cluster = self.loop.controller.cluster
        moves = self.peer_table.migrations_of(request_id)
        if request_id in cluster.request_states:
            places = [one.id for one in cluster.instances.values() if request_id in one.requests]
            for instance_id in places:
                self._tell(InferenceStopped(request_id, instance_id, 0))
        for move in moves:
            reason = "its gateway is lost"
            self._tell(MigrationFailed(move.move_id, request_id, move.destination_id, reason))

    def _tell(self, event: Event, origin: ReportId | None = None) -> None:
        self.loop.tell(event, origin)
