"""The leader's view of its peers: who is there, what each has heard, which orders it still owes.

Everything here but the connections follows from the records, so that a new leader has the same
roster after reading them.
"""

from collections import deque
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from typing import Literal

from sllmcore.commands import Command, StartMigration
from sllmcore.events import Event, RequestArrived, ServerJoined
from sllmreal.control.deployment import ModelDeployment
from sllmreal.control.messages import FromLeader, FromPeer
from sllmreal.leader.log_records import JOINED, LOST, LogRecord, ReportId
from sllmreal.leader.orders import OutboxEntry, order
from sllmreal.leader.routing import AddressedOrder, PeerIncarnation, RoutingTable
from sllmreal.transport.channel import Channel
from sllmreal.transport.errors import ChannelClosedError

PeerChannel = Channel[FromLeader, FromPeer]
PeerKind = Literal["worker", "gateway"]


@dataclass(slots=True)
class PeerState:
    """One peer, in its present incarnation."""

    id: str
    kind: PeerKind
    incarnation: str
    last_report: int = 0
    last_durable: int = 0  # report that is in the log
    lost: bool = False
    due: deque[OutboxEntry] = field(default_factory=deque)
    address: str = ""
    channel: PeerChannel | None = None
    owner: PeerIncarnation = field(init=False)  # one for all of its requests: they are many

    def __post_init__(self) -> None:
        self.owner = PeerIncarnation(self.id, self.incarnation)


Routed = tuple[PeerState, OutboxEntry]


@dataclass(frozen=True, slots=True)
class SavedPeer:
    """A peer without its connection."""

    id: str
    kind: PeerKind
    incarnation: str
    last_report: int
    lost: bool
    due: tuple[OutboxEntry, ...]
    address: str


@dataclass(frozen=True, slots=True)
class SavedPeerTable:
    """What follows from the records, as far as it still matters."""

    peers: tuple[SavedPeer, ...]
    routing: RoutingTable


class PeerTable:
    """Peers by id, and for whom commands are."""

    def __init__(self) -> None:
        self.peers: dict[str, PeerState] = {}
        self._routing = RoutingTable()

    def saved(self, pending: Iterable[Routed]) -> SavedPeerTable:
        """As it is, to be pickled at once, but as if what is `pending` had been sent."""
        due = {peer.id: list(peer.due) for peer in self.peers.values()}
        for peer, one in pending:
            if self.peers.get(peer.id) is peer and not peer.lost:
                due[peer.id].append(one)
        peers = tuple(
            SavedPeer(
                peer.id,
                peer.kind,
                peer.incarnation,
                peer.last_report,
                peer.lost,
                tuple(due[peer.id]),
                peer.address,
            )
            for peer in self.peers.values()
        )
        return SavedPeerTable(peers, self._routing)

    def restore(self, saved: SavedPeerTable) -> None:
        """Be as another was, with nobody connected."""
        for one in saved.peers:
            peer = self.join(one.id, one.kind, one.incarnation)
            peer.last_report = peer.last_durable = one.last_report
            peer.lost, peer.address = one.lost, one.address
            peer.due.extend(one.due)
        self._routing = saved.routing

    @property
    def deployed(self) -> dict[str, ModelDeployment]:
        """The models, by name."""
        known = self._routing
        return {name: known.models[name] for name in known.deployed}

    def open_requests(self, peer: PeerState) -> list[str]:
        """Requests of a gateway's incarnation that have not ended."""
        owners = self._routing.owners
        return [request_id for request_id, owner in owners.items() if owner == peer.owner]

    def orphans(self) -> list[str]:
        """Requests that have not ended and whose gateway's incarnation is lost."""
        owners = self._routing.owners
        return [request_id for request_id, owner in owners.items() if self._owning(owner) is None]

    def migrations_of(self, request_id: str) -> list[StartMigration]:
        """Its moves that nobody has reported the end of."""
        return self._routing.migrations_of(request_id)

    def note_event(self, event: Event, record: LogRecord) -> None:
        """Keep track of an event that the controller is about to hear."""
        if record.origin is not None:
            self._note_origin(event, record.origin, record.address)
        self._routing.note_event(event, record.model)

    def _note_origin(self, event: Event, origin: ReportId, address: str) -> None:
        peer = self.peers.get(origin.peer_id)
        if origin.number == JOINED:
            kind: PeerKind = "worker" if isinstance(event, ServerJoined) else "gateway"
            self.join(origin.peer_id, kind, origin.incarnation).address = address
        elif origin.number == LOST:
            if peer is not None and peer.incarnation == origin.incarnation:
                peer.lost = True
                peer.due.clear()
        else:
            if peer is None or peer.incarnation != origin.incarnation:  # a gateway's first report
                peer = self.join(origin.peer_id, "gateway", origin.incarnation)
            peer.last_report = origin.number
            if isinstance(event, RequestArrived):
                self._routing.owners[event.request.id] = peer.owner

    def join(self, peer_id: str, kind: PeerKind, incarnation: str) -> PeerState:
        """A new incarnation of a peer takes the place of any earlier one."""
        peer = self.peers[peer_id] = PeerState(peer_id, kind, incarnation)
        return peer

    def note_end(self, event: Event, request_states: Container[str]) -> None:
        """Forget the requests that have ended with an event that has been heard."""
        self._routing.note_end(event, request_states)

    def note_commands(self, commands: Iterable[Command]) -> list[Routed]:
        """Whom each command is for. Those for peers that are lost are void."""
        routed = []
        for command in commands:
            addressed = self._routing.addressed(command)
            peer = self._addressee(addressed)
            if peer is not None:
                routed.append((peer, addressed.due))
        return routed

    def _addressee(self, addressed: AddressedOrder) -> PeerState | None:
        if addressed.owner is not None:
            return self._owning(addressed.owner)
        peer = None if addressed.server_id is None else self.peers.get(addressed.server_id)
        return None if peer is None or peer.lost else peer

    def _owning(self, owner: PeerIncarnation) -> PeerState | None:
        """A request's gateway, unless it is lost."""
        peer = self.peers.get(owner.peer_id)
        return None if peer is None or peer.lost or peer.owner != owner else peer

    def send(self, peer: PeerState, due: OutboxEntry) -> None:
        """Owe a peer an order, and send it now if it is connected."""
        peer.due.append(due)
        self._post(peer, order(due, self._address))

    def resend(self, peer: PeerState, last_order: int) -> None:
        """Everything that a peer has not executed."""
        self.executed(peer, last_order)
        for due in tuple(peer.due):
            self._post(peer, order(due, self._address))

    def executed(self, peer: PeerState, last_order: int) -> None:
        while peer.due and peer.due[0].command.id <= last_order:
            peer.due.popleft()

    def note_durable(self, origin: ReportId) -> None:
        """A report is in the log: its peer may forget it."""
        peer = self.peers.get(origin.peer_id)
        if peer is not None and peer.incarnation == origin.incarnation and origin.number > 0:
            peer.last_durable = origin.number

    def broadcast(self, message: FromLeader) -> None:
        """To all gateways."""
        for peer in self.peers.values():
            if peer.kind == "gateway":
                self._post(peer, message)

    @staticmethod
    def _post(peer: PeerState, message: FromLeader) -> None:
        if peer.channel is None:
            return
        try:
            peer.channel.post(message)
        except ChannelClosedError:
            peer.channel = None

    def _address(self, server_id: str) -> str:
        """Where a server's data plane listens; empty while that is not known."""
        peer = self.peers.get(server_id)
        return "" if peer is None else peer.address
