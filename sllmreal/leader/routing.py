"""Where instances run, whose requests are, which models there are: what an order needs to know
beside its command. It follows from events and commands, and nothing else."""

from collections.abc import Container
from dataclasses import dataclass
from typing import assert_never

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
    RequestCancelled,
    ServerLost,
)
from sllmreal.control.model import ModelSpec
from sllmreal.leader.orders import Due


@dataclass(frozen=True, slots=True)
class Owner:
    """The incarnation of a peer that an order is for."""

    peer_id: str
    incarnation: str


@dataclass(frozen=True, slots=True)
class Addressed:
    """An order, and for whom it is: a server's worker, or the gateway that a request came from."""

    due: Due
    server_id: str | None = None
    owner: Owner | None = None


class Whereabouts:
    """Instances by server, requests by gateway, moves under way."""

    def __init__(self) -> None:
        self.models: dict[str, ModelSpec] = {}  # all that ever were, in their last version
        self.deployed: dict[str, None] = {}
        self.owners: dict[str, Owner] = {}  # by request
        self._servers: dict[str, str] = {}  # by instance
        self._loaded: set[str] = set()
        self._moves: dict[str, Resume] = {}  # by id

    def moves_of(self, request_id: str) -> list[Resume]:
        """Its moves that nobody has reported the end of."""
        return [move for move in self._moves.values() if move.request_id == request_id]

    def note_event(self, event: Event, model: ModelSpec | None) -> None:
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

    def note_end(self, event: Event, tickets: Container[str]) -> None:
        """Forget the requests that have ended with an event that has been heard."""
        match event:
            case (
                InferenceFinished(request_id)
                | InferenceFailed(request_id)
                | InferenceStopped(request_id)
                | RequestCancelled(request_id)
            ) if request_id not in tickets:
                self.owners.pop(request_id, None)
            case InstanceLost() | LoadFailed() | ServerLost():
                for request_id in [one for one in self.owners if one not in tickets]:
                    del self.owners[request_id]
            case _:
                pass

    def addressed(self, command: Command) -> Addressed:
        """For whom a command is that was just given."""
        if isinstance(command, Load | Unload | Evict):
            return self._for_worker(command)
        return self._for_gateway(command)

    def _for_worker(self, command: Load | Unload | Evict) -> Addressed:
        match command:
            case Load(_, instance_id, model, server_id):
                self._servers[instance_id] = server_id
                return Addressed(Due(command, server_id, model=self.models.get(model)), server_id)
            case Unload(_, instance_id):
                loaded = instance_id in self._loaded
                known_id = self._servers.get(instance_id, "")
                self._forget_instance(instance_id)
                return Addressed(Due(command, known_id, loaded=loaded), known_id)
            case Evict(_, server_id):
                return Addressed(Due(command, server_id), server_id)
            case _:
                assert_never(command)

    def _for_gateway(
        self, command: Infer | Stop | Resume | AbortResume | Reject | TimeOut
    ) -> Addressed:
        owner = self.owners.get(command.request_id)
        match command:
            case Infer(instance_id=instance_id) | Stop(instance_id=instance_id):
                due = Due(command, self._servers.get(instance_id, ""))
            case Resume(source_id=source_id, destination_id=destination_id):
                self._moves[command.move_id] = command
                source = self._servers.get(source_id, "")
                due = Due(command, source, self._servers.get(destination_id, ""))
            case AbortResume():
                due = Due(command)
            case Reject(request_id=request_id) | TimeOut(request_id=request_id):
                self.owners.pop(request_id, None)
                due = Due(command)
            case _:
                assert_never(command)
        return Addressed(due, owner=owner)

    def _forget_instance(self, instance_id: str) -> None:
        self._servers.pop(instance_id, None)
        self._loaded.discard(instance_id)
        for move in [one for one in self._moves.values() if one.destination_id == instance_id]:
            del self._moves[move.move_id]
