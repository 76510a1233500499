"""The leader: one controller, its log, and the peers that carry its commands out.

The process that holds the lease runs one leader. It reads the log, waits for the peers to come
back, and goes on. A worker or gateway without a connection for `grace_s` is marked lost.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import msgspec

from sllmcore.build import PolicySettings, build_controller
from sllmcore.errors import UsageError
from sllmcore.events import (
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
    ClusterStatus,
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
from sllmreal.leader.fit import misfit, misfits
from sllmreal.leader.log_records import JOINED, LOST, EventLog, ReportId
from sllmreal.leader.operator_requests import answer, cluster_status
from sllmreal.leader.peers import PeerChannel, PeerState, PeerTable
from sllmreal.streams.host_io import HostOptions
from sllmreal.transport.errors import ChannelClosedError

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LeaderSettings:
    """Settings of a leader.

    Args:
        policy: The controller's policy.
        seed: Seed of the policy's random choices.
        grace_s: Seconds without a connection after which a peer is marked lost.
        orphan_s: Seconds after which the requests of a lost gateway have ended in all engines.
        link: Heartbeats.
        compaction: When a snapshot replaces the log's entries; None: never.
    """

    policy: PolicySettings = field(default_factory=PolicySettings)
    seed: int = 0
    grace_s: float = 2.0
    orphan_s: float = 1.2 * HostOptions().lease_s  # engine hosts have dropped the streams by then
    link: LinkSettings = field(default_factory=LinkSettings)
    compaction: Compaction | None = field(default_factory=Compaction)

    def __post_init__(self) -> None:
        if self.grace_s <= 0 or self.orphan_s <= 0:
            raise UsageError(f"grace_s and orphan_s must be positive, got {self}")


class Leader:
    """A leader; it leads within the context of `running`.

    Attributes:
        term: Number of this leadership. Each leadership has a higher one; peers refuse lower ones.
    """

    def __init__(self, settings: LeaderSettings, log: EventLog, term: int) -> None:
        self.peer_table = PeerTable()
        rng = random.Random(f"{settings.seed}/policy")  # noqa: S311 - as a simulation draws
        controller = build_controller(settings.policy, rng)
        header = header_line(settings.policy, settings.seed)
        self.loop = ControlLoop(
            controller=controller,
            log=log,
            peer_table=self.peer_table,
            header=header,
            compaction=settings.compaction,
        )
        self._settings = settings
        self.term = term
        self._grace_timers: dict[str, asyncio.TimerHandle] = {}  # by peer
        self._orphan_timers: set[asyncio.TimerHandle] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["asyncio.Task[None]"]:
        """Recover the state from the log, then lead until the context ends.

        Yields:
            The task of the control loop. It ends only by an error, which ends the leadership.
        """
        found = await self.loop.recover()
        _LOG.info("leading in term %d: %d log entries replayed", self.term, found.num_lines)
        if found.foreign:
            _LOG.warning(
                "the log is by another version of the code: requests and instances are dropped, "
                "models stay deployed"
            )
        for peer in self.peer_table.peers.values():
            if not peer.lost:
                self._start_grace_timer(peer)
        if orphans := self.peer_table.orphans():
            self._start_orphan_timer(orphans)
        task = asyncio.create_task(self.loop.run())
        try:
            yield task
        finally:
            task.cancel()
            self.loop.close()
            for timer in (*self._grace_timers.values(), *self._orphan_timers):
                timer.cancel()
            for peer in self.peer_table.peers.values():
                if peer.channel is not None:
                    peer.channel.close()

    # Operators.

    def deploy(self, model: ModelDeployment) -> None:
        """Deploy a model.

        Raises:
            UsageError: A model of that name is deployed, or servers have joined and none of them
                can run the model.
        """
        if model.name in self.peer_table.deployed:
            raise UsageError(f"model {model.name} is deployed already: delete it first")
        if reason := misfit(model, self.peer_table.known_servers):
            raise UsageError(reason)
        self.loop.handle(ModelDeployed(model.checkpoint, model.num_slots), model=model)
        self.peer_table.broadcast(self._deployed(), ("gateway", "worker"))
        _LOG.info("model deployed from %s", model.source, extra={"model": model.name})

    def delete(self, name: str) -> None:
        """Delete a model: it takes no more requests. Raises UsageError if it is not deployed."""
        if name not in self.peer_table.deployed:
            raise UsageError(f"no model {name} is deployed")
        self.loop.handle(ModelDeleted(name))
        self.peer_table.broadcast(self._deployed(), ("gateway", "worker"))
        _LOG.info("model deleted", extra={"model": name})

    def models(self) -> tuple[ModelDeployment, ...]:
        """Return the models that are deployed."""
        return tuple(self.peer_table.deployed.values())

    def status(self) -> ClusterStatus:
        """Return the cluster's status for an operator."""
        return cluster_status(self.term, self.loop, self.peer_table)

    async def durable(self) -> None:
        """Return when everything that has been done so far is in the log."""
        await self.loop.durable()

    # Peers.

    async def serve_peer(self, channel: PeerChannel) -> None:
        """Serve a connection of a peer or an operator until it ends."""
        try:
            async with asyncio.timeout(self._settings.link.silence_s):
                message = await channel.receive()
            if isinstance(message, Hello):
                await self._serve_hello(message, channel)
            while isinstance(message, DeployModel | DeleteModel | GetStatus):
                channel.post(await answer(self, message))
                message = await channel.receive()
        except (ChannelClosedError, TimeoutError) as error:
            _LOG.debug("connection ended: %s", error)
        finally:
            channel.close()

    async def _serve_hello(self, hello: Hello, channel: PeerChannel) -> None:
        peer = self._attach(hello, channel)
        if peer is None:
            return
        send = partial(self._send_heartbeat, peer, channel)
        heartbeat = Heartbeat(self._settings.link, channel, send)
        try:
            async with heartbeat.beating():
                while True:
                    message = await channel.receive()
                    heartbeat.received()
                    self._receive(peer, message)
        except ChannelClosedError as error:
            _LOG.info("%s disconnected: %s", peer.kind, error, extra={"peer": peer.id})
            raise
        finally:
            if peer.channel is channel:
                peer.channel = None
                self._start_grace_timer(peer)

    def _send_heartbeat(self, peer: PeerState, channel: PeerChannel) -> None:
        channel.post(ReportsLogged(peer.last_durable))
        if peer.kind == "gateway":
            channel.post(self.loop.state.counts.message())

    def _receive(self, peer: PeerState, message: FromPeer) -> None:
        match message:
            case EventReport():
                self._receive_report(peer, message)
            case OrdersExecuted(last_order):
                self.peer_table.note_executed(peer, last_order)
            case _:
                raise ChannelClosedError(f"protocol error: {type(message).__name__} after Hello")

    def _receive_report(self, peer: PeerState, message: EventReport) -> None:
        if message.number != peer.last_report + 1:
            if message.number <= peer.last_report:
                return  # a duplicate
            raise ChannelClosedError(
                f"protocol error: report {message.number} after {peer.last_report}"
            )
        try:
            event = reported_event(message)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ChannelClosedError(f"protocol error: a malformed report: {error}") from error
        self.loop.handle(event, ReportId(peer.id, peer.incarnation, message.number))

    def _attach(self, hello: Hello, channel: PeerChannel) -> PeerState | None:
        """Attach a peer; return None if it was reset and must come back as a new incarnation."""
        if hello.version != VERSION:
            raise ChannelClosedError(
                f"protocol version {hello.version}, this leader's is {VERSION}"
            )
        peer = self.peer_table.peers.get(hello.peer_id)
        if peer is None or peer.incarnation != hello.incarnation:
            if not hello.fresh:
                self._reset(hello, channel, "this leader's log does not contain this incarnation")
                return None
            if peer is not None and not peer.lost:
                self._mark_lost(peer, "its process was started again")
            peer = self._join(hello)
            _LOG.info("%s joined", peer.kind, extra={"peer": peer.id})
        elif peer.lost:
            self._reset(hello, channel, "it was away for too long")
            return None
        else:
            _LOG.info("%s reconnected", peer.kind, extra={"peer": peer.id})
        if peer.channel is not None:
            peer.channel.close()
        self._cancel_grace_timer(peer)
        peer.channel = channel
        channel.post(Welcome(self.term, peer.last_durable, self.loop.clock.zero_at_s))
        channel.post(self._deployed())
        if peer.kind == "gateway":
            channel.post(self._workers())
        else:
            self.peer_table.broadcast(self._workers())
            self.peer_table.broadcast(self._deployed())  # more of them may be servable
        self.peer_table.resend(peer, hello.last_order)
        return peer

    def _reset(self, hello: Hello, channel: PeerChannel, reason: str) -> None:
        _LOG.warning("%s reset: %s", hello.kind, reason, extra={"peer": hello.peer_id})
        channel.post(Reset(reason))

    def _join(self, hello: Hello) -> PeerState:
        if hello.kind == "gateway":
            return self.peer_table.join(hello.peer_id, "gateway", hello.incarnation)
        if hello.offer is None or hello.offer.server.id != hello.peer_id:
            raise ChannelClosedError("protocol error: a worker offers the server of its own name")
        event = ServerJoined(hello.offer.server, hello.offer.resident)
        origin = ReportId(hello.peer_id, hello.incarnation, JOINED)
        self.loop.handle(event, origin, address=hello.offer.address)
        return self.peer_table.peers[hello.peer_id]

    def _deployed(self) -> DeployedModels:
        models = self.models()
        return DeployedModels(models, misfits(models, self.peer_table.known_servers))

    def _workers(self) -> WorkerAddresses:
        return WorkerAddresses(self.peer_table.worker_addresses)

    # Lost peers.

    def _start_grace_timer(self, peer: PeerState) -> None:
        """Mark a peer lost unless it comes back in time."""
        grace_s = self._settings.grace_s
        reason = f"it was away for {grace_s:.1f} s"
        loop = asyncio.get_running_loop()
        timer = loop.call_later(grace_s, lambda: self._mark_lost(peer, reason))
        self._grace_timers[peer.id] = timer

    def _cancel_grace_timer(self, peer: PeerState) -> None:
        timer = self._grace_timers.pop(peer.id, None)
        if timer is not None:
            timer.cancel()

    def _mark_lost(self, peer: PeerState, reason: str) -> None:
        _LOG.warning("%s lost: %s", peer.kind, reason, extra={"peer": peer.id})
        self._cancel_grace_timer(peer)
        origin = ReportId(peer.id, peer.incarnation, LOST)
        if peer.kind == "worker":
            self.loop.handle(ServerLost(peer.id), origin)
            self.peer_table.broadcast(self._workers())
        else:
            for request_id in self.peer_table.open_requests(peer):
                self.loop.handle(RequestCancelled(request_id), origin)
            peer.lost = True
            self.peer_table.forget_gateway(peer)
            if orphans := self.peer_table.open_requests(peer):
                self._start_orphan_timer(orphans)

    def _start_orphan_timer(self, request_ids: list[str]) -> None:
        """End requests later: no gateway is left to report their ends in the engines."""

        def end() -> None:
            self._orphan_timers.discard(timer)
            for request_id in request_ids:
                self._end_orphan(request_id)

        timer = asyncio.get_running_loop().call_later(self._settings.orphan_s, end)
        self._orphan_timers.add(timer)

    def _end_orphan(self, request_id: str) -> None:
        cluster = self.loop.controller.cluster
        moves = self.peer_table.migrations_of(request_id)
        if request_id in cluster.request_states:
            places = [one.id for one in cluster.instances.values() if request_id in one.requests]
            for instance_id in places:
                self.loop.handle(InferenceStopped(request_id, instance_id, 0))
        for move in moves:
            reason = "its gateway is lost"
            self.loop.handle(MigrationFailed(move.move_id, request_id, move.destination_id, reason))
