"""The leader's view of its peers: who is there, what each has heard, which orders it still owes.

Everything here but the connections follows from the records, so that a new leader has the same
roster after reading them.
"""

from collections import deque
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from typing import Literal, assert_never

from sllmcore.commands import (
    AbortResume,
    Command,
    Evict,
    Infer,
    Load,
    Reject,
    Resume,
    Stop,
    TimeOut,
    Unload,
)
from sllmcore.events import (
    Event,
    InferenceFailed,
    InferenceFinished,
    InferenceStopped,
    InstanceLost,
    LoadFailed,
    LoadFinished,
    MigrationFailed,
    MigrationFinished,
    ModelDeleted,
    ModelDeployed,
    RequestArrived,
    RequestCancelled,
    ServerJoined,
    ServerLost,
)
from sllmreal.cluster.orders import Due, order
from sllmreal.cluster.record import JOINED, LOST, Origin, Record
from sllmreal.protocol.channel import Channel
from sllmreal.protocol.errors import ChannelClosedError
from sllmreal.protocol.messages import (
    FromLeader,
    FromPeer,
    Heard,
)
from sllmreal.protocol.model import ModelSpec

PeerChannel = Channel[FromLeader, FromPeer]
PeerKind = Literal["worker", "gateway"]


@dataclass(slots=True)
class PeerState:
    """One peer, in its present incarnation."""

    id: str
    kind: PeerKind
    incarnation: str
    last_report: int = 0
    lost: bool = False
    due: deque[Due] = field(default_factory=deque)
    address: str = ""
    channel: PeerChannel | None = None


Routed = tuple[PeerState, Due]


@dataclass(frozen=True, slots=True)
class Owner:
    """The incarnation of a gateway that a request came from."""

    peer_id: str
    incarnation: str


@dataclass(frozen=True, slots=True)
class SavedPeer:
    """A peer without its connection."""

    id: str
    kind: PeerKind
    incarnation: str
    last_report: int
    lost: bool
    due: tuple[Due, ...]
    address: str


@dataclass(frozen=True, slots=True)
class SavedRoster:
    """What follows from the records, as far as it still matters."""

    peers: tuple[SavedPeer, ...]
    models: tuple[ModelSpec, ...]
    deployed: tuple[str, ...]
    servers: dict[str, str]
    loaded: frozenset[str]
    owners: dict[str, Owner]
    moves: dict[str, Resume]


class Roster:
    """Peers by id, instances by server, requests by gateway."""

    def __init__(self) -> None:
        self.peers: dict[str, PeerState] = {}
        self.models: dict[str, ModelSpec] = {}  # all that ever were, in their last version
        self.deployed: dict[str, None] = {}
        self._servers: dict[str, str] = {}  # by instance
        self._loaded: set[str] = set()
        self._owners: dict[str, Owner] = {}  # by request
        self._moves: dict[str, Resume] = {}  # under way, by id

    def saved(self, pending: Iterable[Routed]) -> SavedRoster:
        """As a value, as if what is `pending` had been sent."""
        due = {peer.id: list(peer.due) for peer in self.peers.values()}
        for peer, order_due in pending:
            if self.peers.get(peer.id) is peer and not peer.lost:
                due[peer.id].append(order_due)
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
        return SavedRoster(
            peers,
            tuple(self.models.values()),
            tuple(self.deployed),
            dict(self._servers),
            frozenset(self._loaded),
            dict(self._owners),
            dict(self._moves),
        )

    def restore(self, saved: SavedRoster) -> None:
        """Be as another was, with nobody connected."""
        for one in saved.peers:
            peer = self.join(one.id, one.kind, one.incarnation)
            peer.last_report, peer.lost, peer.address = one.last_report, one.lost, one.address
            peer.due.extend(one.due)
        self.models = {model.name: model for model in saved.models}
        self.deployed = dict.fromkeys(saved.deployed)
        self._servers = dict(saved.servers)
        self._loaded = set(saved.loaded)
        self._owners = dict(saved.owners)
        self._moves = dict(saved.moves)

    def open_requests(self, peer: PeerState) -> list[str]:
        """Requests of a gateway's incarnation that have not ended."""
        owner = Owner(peer.id, peer.incarnation)
        return [request_id for request_id, one in self._owners.items() if one == owner]

    def orphans(self) -> list[str]:
        """Requests that have not ended and whose gateway's incarnation is lost."""
        return [one for one, owner in self._owners.items() if self._owning(owner) is None]

    def moves_of(self, request_id: str) -> list[Resume]:
        """Its moves that nobody has reported the end of."""
        return [move for move in self._moves.values() if move.request_id == request_id]

    def note_event(self, event: Event, record: Record) -> None:
        """Keep track of an event that the controller is about to hear."""
        model = record.model
        if record.origin is not None:
            self._note_origin(event, record.origin, record.address)
        match event:
            case ModelDeployed() if model is not None:
                self.models[model.name] = model
                self.deployed[model.name] = None
            case ModelDeleted(name):
                self.deployed.pop(name, None)
            case LoadFinished(instance_id):
                self._loaded.add(instance_id)
            case InstanceLost(instance_id) | LoadFailed(instance_id):
                self._forget_instance(instance_id)
            case ServerLost(server_id):
                for instance_id in [i for i, s in self._servers.items() if s == server_id]:
                    self._forget_instance(instance_id)
            case MigrationFinished(move_id) | MigrationFailed(move_id):
                self._moves.pop(move_id, None)
            case _:
                pass

    def _note_origin(self, event: Event, origin: Origin, address: str) -> None:
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
                owner = Owner(origin.peer_id, origin.incarnation)
                self._owners[event.request.id] = owner

    def join(self, peer_id: str, kind: PeerKind, incarnation: str) -> PeerState:
        """A new incarnation of a peer takes the place of any earlier one."""
        peer = self.peers[peer_id] = PeerState(peer_id, kind, incarnation)
        return peer

    def note_end(self, event: Event, tickets: Container[str]) -> None:
        """Forget the requests that have ended with an event that has been heard."""
        match event:
            case (
                InferenceFinished(request_id)
                | InferenceFailed(request_id)
                | InferenceStopped(request_id)
                | RequestCancelled(request_id)
            ) if request_id not in tickets:
                self._owners.pop(request_id, None)
            case InstanceLost() | LoadFailed() | ServerLost():
                for request_id in [one for one in self._owners if one not in tickets]:
                    del self._owners[request_id]
            case _:
                pass

    def note_commands(self, commands: Iterable[Command]) -> list[Routed]:
        """Whom each command is for. Those for peers that are lost are void."""
        routed = []
        for command in commands:
            peer_id, due = self._routed(command)
            peer = self.peers.get(peer_id)
            if peer is not None and not peer.lost:
                routed.append((peer, due))
        return routed

    def _routed(self, command: Command) -> tuple[str, Due]:
        if isinstance(command, Load | Unload | Evict):
            return self._for_worker(command)
        return self._for_gateway(command)

    def _for_worker(self, command: Load | Unload | Evict) -> tuple[str, Due]:
        match command:
            case Load(_, instance_id, model, server_id):
                self._servers[instance_id] = server_id
                return server_id, Due(command, server_id, model=self.models.get(model))
            case Unload(_, instance_id):
                loaded = instance_id in self._loaded
                server_id = self._servers.get(instance_id, "")
                self._forget_instance(instance_id)
                return server_id, Due(command, server_id, loaded=loaded)
            case Evict(_, server_id):
                return server_id, Due(command, server_id)
            case _:
                assert_never(command)

    def _for_gateway(
        self, command: Infer | Stop | Resume | AbortResume | Reject | TimeOut
    ) -> tuple[str, Due]:
        owner = self._owners.get(command.request_id)
        peer = None if owner is None else self._owning(owner)
        gateway = "" if peer is None else peer.id
        match command:
            case Infer(instance_id=instance_id) | Stop(instance_id=instance_id):
                return gateway, Due(command, self._servers.get(instance_id, ""))
            case Resume(source_id=source_id, destination_id=destination_id):
                self._moves[command.move_id] = command
                source = self._servers.get(source_id, "")
                return gateway, Due(command, source, self._servers.get(destination_id, ""))
            case AbortResume():
                return gateway, Due(command)
            case Reject(request_id=request_id) | TimeOut(request_id=request_id):
                self._owners.pop(request_id, None)
                return gateway, Due(command)
            case _:
                assert_never(command)

    def _owning(self, owner: Owner) -> PeerState | None:
        """A request's gateway, unless it is lost."""
        peer = self.peers.get(owner.peer_id)
        if peer is None or peer.lost or peer.incarnation != owner.incarnation:
            return None
        return peer

    def _forget_instance(self, instance_id: str) -> None:
        self._servers.pop(instance_id, None)
        self._loaded.discard(instance_id)
        for move in [one for one in self._moves.values() if one.destination_id == instance_id]:
            del self._moves[move.move_id]

    def send(self, peer: PeerState, due: Due) -> None:
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

    def acknowledge(self, origin: Origin) -> None:
        """A report is in the log: its peer may forget it."""
        peer = self.peers.get(origin.peer_id)
        if peer is not None and peer.incarnation == origin.incarnation and origin.number > 0:
            self._post(peer, Heard(origin.number))

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
