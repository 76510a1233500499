"""The peer table: incarnation, acknowledged reports and outbox of each worker and gateway.

All but the connections follows from the log's records, so a new leader that has read them has the
same table.
"""

from collections import deque
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from typing import Literal

from sllmcore.commands import Command, StartMigration
from sllmcore.events import Event, RequestArrived, ServerJoined
from sllmcore.types import ServerSpec
from sllmreal.control.deployment import ModelDeployment
from sllmreal.control.messages import FromLeader, FromPeer, Order
from sllmreal.leader.log_records import JOINED, LOST, LogRecord, ReportId
from sllmreal.leader.orders import ToGateway, ToWorker, addressed_order
from sllmreal.leader.routing import PeerIncarnation, RoutingTable
from sllmreal.transport.channel import Channel
from sllmreal.transport.errors import ChannelClosedError

PeerChannel = Channel[FromLeader, FromPeer]
PeerKind = Literal["worker", "gateway"]


@dataclass(slots=True)
class PeerState:
    """The present incarnation of a peer.

    Attributes:
        last_report: Number of the last report that the controller has handled.
        last_durable: Number of the last report that is in the log.
        lost: The peer has been away for too long.
        outbox: Orders that the peer has not executed, as far as the leader knows.
        channel: The connection to the peer; None while there is none.
        life: The peer's id and incarnation; its requests share this one object, to save memory.
    """

    id: str
    kind: PeerKind
    incarnation: str
    last_report: int = 0
    last_durable: int = 0
    lost: bool = False
    outbox: deque[Order] = field(default_factory=deque)
    channel: PeerChannel | None = None
    life: PeerIncarnation = field(init=False)

    def __post_init__(self) -> None:
        self.life = PeerIncarnation(self.id, self.incarnation)


RoutedOrder = tuple[PeerState, Order]


@dataclass(frozen=True, slots=True)
class SavedPeer:
    """A `PeerState` without its connection."""

    id: str
    kind: PeerKind
    incarnation: str
    last_report: int
    lost: bool
    outbox: tuple[Order, ...]


@dataclass(frozen=True, slots=True)
class SavedPeerTable:
    """A `PeerTable` without connections."""

    peers: tuple[SavedPeer, ...]
    routing: RoutingTable


class PeerTable:
    """Peers by id, and the routing of commands to them."""

    def __init__(self) -> None:
        self.peers: dict[str, PeerState] = {}
        self._routing = RoutingTable()

    def saved(self, pending: Iterable[RoutedOrder]) -> SavedPeerTable:
        """Return the table as it will be when `pending` orders have been sent.

        The result shares objects with this table: pickle it before the next event.
        """
        outboxes = {peer.id: list(peer.outbox) for peer in self.peers.values()}
        for peer, order in pending:
            if self.peers.get(peer.id) is peer and not peer.lost:
                outboxes[peer.id].append(order)
        peers = tuple(
            SavedPeer(
                id=peer.id,
                kind=peer.kind,
                incarnation=peer.incarnation,
                last_report=peer.last_report,
                lost=peer.lost,
                outbox=tuple(outboxes[peer.id]),
            )
            for peer in self.peers.values()
        )
        return SavedPeerTable(peers, self._routing)

    def restore(self, saved: SavedPeerTable) -> None:
        """Take over a saved table; no peer is connected."""
        for one in saved.peers:
            peer = self.join(one.id, one.kind, one.incarnation)
            peer.last_report = peer.last_durable = one.last_report
            peer.lost = one.lost
            peer.outbox.extend(one.outbox)
        self._routing = saved.routing

    @property
    def deployed(self) -> dict[str, ModelDeployment]:
        """The models that are deployed, by name."""
        known = self._routing
        return {name: known.models[name] for name in known.deployed}

    @property
    def known_servers(self) -> tuple[ServerSpec, ...]:
        """Every server that ever joined, as it was then; one that is lost may come back."""
        return tuple(self._routing.specs.values())

    @property
    def worker_addresses(self) -> tuple[str, ...]:
        """The data planes of the workers that are not lost."""
        return tuple(address for address in self._routing.addresses.values() if address)

    def open_requests(self, peer: PeerState) -> list[str]:
        """Return the requests of a gateway's incarnation that have not ended."""
        gateways = self._routing.gateways
        return [request_id for request_id, gateway in gateways.items() if gateway == peer.life]

    def orphans(self) -> list[str]:
        """Return the requests that have not ended and that a lost gateway sent."""
        gateways = self._routing.gateways
        return [one for one, gateway in gateways.items() if self._present(gateway) is None]

    def migrations_of(self, request_id: str) -> list[StartMigration]:
        """Return the migrations of a request that have not been reported as ended."""
        return self._routing.migrations_of(request_id)

    def note_event(self, event: Event, record: LogRecord) -> None:
        """Update the table before the controller handles an event."""
        if record.origin is not None:
            self._note_origin(event, record.origin)
        self._routing.note_event(event, record.model, record.address)

    def _note_origin(self, event: Event, origin: ReportId) -> None:
        peer = self.peers.get(origin.peer_id)
        if origin.number == JOINED:
            kind: PeerKind = "worker" if isinstance(event, ServerJoined) else "gateway"
            self.join(origin.peer_id, kind, origin.incarnation)
        elif origin.number == LOST:
            if peer is not None and peer.incarnation == origin.incarnation:
                peer.lost = True
                peer.outbox.clear()
                self.forget_gateway(peer)
        else:
            if peer is None or peer.incarnation != origin.incarnation:  # a gateway's first report
                peer = self.join(origin.peer_id, "gateway", origin.incarnation)
            peer.last_report = origin.number
            if isinstance(event, RequestArrived):
                self._routing.gateways[event.request.id] = peer.life

    def forget_gateway(self, peer: PeerState) -> None:
        """Remove a lost gateway: its name does not come back. A worker stays, being a server."""
        if peer.kind == "gateway" and self.peers.get(peer.id) is peer:
            del self.peers[peer.id]

    def join(self, peer_id: str, kind: PeerKind, incarnation: str) -> PeerState:
        """Add a new incarnation of a peer; it replaces the previous one."""
        peer = self.peers[peer_id] = PeerState(peer_id, kind, incarnation)
        return peer

    def note_end(self, event: Event, request_states: Container[str]) -> None:
        """Remove the requests that ended with an event that the controller has handled."""
        self._routing.note_end(event, request_states)

    def note_commands(
        self, commands: Iterable[Command], load_failed: Container[str] = ()
    ) -> list[RoutedOrder]:
        """Return the orders of commands with their peers; orders for lost peers are dropped.

        Args:
            commands: The commands for one event.
            load_failed: The requests that waited for a load, if the event is its failure.
        """
        routed = []
        for command in commands:
            addressed = addressed_order(command, self._routing, load_failed)
            peer = self._addressee(addressed)
            self._routing.note_command(command)
            if peer is not None:
                routed.append((peer, addressed.order))
        return routed

    def _addressee(self, addressed: ToWorker | ToGateway) -> PeerState | None:
        if isinstance(addressed, ToGateway):
            gateway = self._routing.gateways.get(addressed.request_id)
            return None if gateway is None else self._present(gateway)
        peer = self.peers.get(addressed.server_id)
        return None if peer is None or peer.lost else peer

    def _present(self, life: PeerIncarnation) -> PeerState | None:
        """Return the peer with this incarnation, unless it is lost or has been replaced."""
        peer = self.peers.get(life.peer_id)
        return None if peer is None or peer.lost or peer.life != life else peer

    def send(self, peer: PeerState, order: Order) -> None:
        """Put an order into a peer's outbox, and post it if the peer is connected."""
        peer.outbox.append(order)
        self._post(peer, order)

    def resend(self, peer: PeerState, last_order: int) -> None:
        """Post every order after `last_order`, the last one that the peer has executed."""
        self.note_executed(peer, last_order)
        for order in tuple(peer.outbox):
            self._post(peer, order)

    def note_executed(self, peer: PeerState, last_order: int) -> None:
        """Drop the orders up to `last_order` from a peer's outbox."""
        while peer.outbox and peer.outbox[0].id <= last_order:
            peer.outbox.popleft()

    def note_durable(self, origin: ReportId) -> None:
        """Record that a report is in the log, so that its peer may forget it."""
        peer = self.peers.get(origin.peer_id)
        if peer is not None and peer.incarnation == origin.incarnation and origin.number > 0:
            peer.last_durable = origin.number

    def broadcast(self, message: FromLeader, kinds: tuple[PeerKind, ...] = ("gateway",)) -> None:
        """Post a message to all peers of those kinds that are connected."""
        for peer in self.peers.values():
            if peer.kind in kinds:
                self._post(peer, message)

    @staticmethod
    def _post(peer: PeerState, message: FromLeader) -> None:
        if peer.channel is None:
            return
        try:
            peer.channel.post(message)
        except ChannelClosedError:
            peer.channel = None
