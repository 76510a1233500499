"""Where instances run, whose requests are, which models there are: what an order needs to know
beside its command. It follows from events and commands, and nothing else."""

from collections.abc import Container
from dataclasses import dataclass
from typing import assert_never

from sllmcore.commands import (
    AbortMigration,
    Command,
    EvictCopy,
    LaunchInstance,
    RejectRequest,
    StartMigration,
    StartRequest,
    StopInstance,
    StopRequest,
    TimeOutRequest,
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
    RequestCancelled,
    ServerLost,
)
from sllmreal.control.deployment import ModelDeployment
from sllmreal.leader.orders import OutboxEntry


@dataclass(frozen=True, slots=True)
class PeerIncarnation:
    """The incarnation of a peer that an order is for."""

    peer_id: str
    incarnation: str


@dataclass(frozen=True, slots=True)
class AddressedOrder:
    """An order, and for whom it is: a server's worker, or the gateway that a request came from."""

    due: OutboxEntry
    server_id: str | None = None
    owner: PeerIncarnation | None = None


class RoutingTable:
    """Instances by server, requests by gateway, moves under way."""

    def __init__(self) -> None:
        self.models: dict[str, ModelDeployment] = {}  # all that ever were, in their last version
        self.deployed: dict[str, None] = {}
        self.owners: dict[str, PeerIncarnation] = {}  # by request
        self._servers: dict[str, str] = {}  # by instance
        self._loaded: set[str] = set()
        self._moves: dict[str, StartMigration] = {}  # by id

    def migrations_of(self, request_id: str) -> list[StartMigration]:
        """Its moves that nobody has reported the end of."""
        return [move for move in self._moves.values() if move.request_id == request_id]

    def note_event(self, event: Event, model: ModelDeployment | None) -> None:
        """Keep track of an event that the controller is about to hear."""
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

    def note_end(self, event: Event, request_states: Container[str]) -> None:
        """Forget the requests that have ended with an event that has been heard."""
        match event:
            case (
                InferenceFinished(request_id)
                | InferenceFailed(request_id)
                | InferenceStopped(request_id)
                | RequestCancelled(request_id)
            ) if request_id not in request_states:
                self.owners.pop(request_id, None)
            case InstanceLost() | LoadFailed() | ServerLost():
                for request_id in [one for one in self.owners if one not in request_states]:
                    del self.owners[request_id]
            case _:
                pass

    def addressed(self, command: Command) -> AddressedOrder:
        """For whom a command is that was just given."""
        if isinstance(command, LaunchInstance | StopInstance | EvictCopy):
            return self._for_worker(command)
        return self._for_gateway(command)

    def _for_worker(self, command: LaunchInstance | StopInstance | EvictCopy) -> AddressedOrder:
        match command:
            case LaunchInstance(_, instance_id, model, server_id):
                self._servers[instance_id] = server_id
                return AddressedOrder(
                    OutboxEntry(command, server_id, model=self.models.get(model)), server_id
                )
            case StopInstance(_, instance_id):
                loaded = instance_id in self._loaded
                known_id = self._servers.get(instance_id, "")
                self._forget_instance(instance_id)
                return AddressedOrder(OutboxEntry(command, known_id, loaded=loaded), known_id)
            case EvictCopy(_, server_id):
                return AddressedOrder(OutboxEntry(command, server_id), server_id)
            case _:
                assert_never(command)

    def _for_gateway(
        self,
        command: StartRequest
        | StopRequest
        | StartMigration
        | AbortMigration
        | RejectRequest
        | TimeOutRequest,
    ) -> AddressedOrder:
        owner = self.owners.get(command.request_id)
        match command:
            case StartRequest(instance_id=instance_id) | StopRequest(instance_id=instance_id):
                due = OutboxEntry(command, self._servers.get(instance_id, ""))
            case StartMigration(source_id=source_id, destination_id=destination_id):
                self._moves[command.move_id] = command
                source = self._servers.get(source_id, "")
                due = OutboxEntry(command, source, self._servers.get(destination_id, ""))
            case AbortMigration():
                due = OutboxEntry(command)
            case RejectRequest(request_id=request_id) | TimeOutRequest(request_id=request_id):
                self.owners.pop(request_id, None)
                due = OutboxEntry(command)
            case _:
                assert_never(command)
        return AddressedOrder(due, owner=owner)

    def _forget_instance(self, instance_id: str) -> None:
        self._servers.pop(instance_id, None)
        self._loaded.discard(instance_id)
        for move in [one for one in self._moves.values() if one.destination_id == instance_id]:
            del self._moves[move.move_id]
