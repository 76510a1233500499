"""The routing table: the server of each instance, the gateway of each request, the models.

Orders need these beside their commands. The table follows from events and commands alone.
"""

from collections.abc import Container
from dataclasses import dataclass

from sllmcore.commands import (
    Command,
    LaunchInstance,
    RejectRequest,
    StartMigration,
    StopInstance,
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
    ServerJoined,
    ServerLost,
)
from sllmcore.types import ServerSpec
from sllmreal.control.deployment import ModelDeployment


@dataclass(frozen=True, slots=True)
class PeerIncarnation:
    """A life of a peer process."""

    peer_id: str
    incarnation: str


class RoutingTable:
    """Instances by server, requests by gateway, migrations under way.

    Attributes:
        models: Every model that was ever deployed, in its last version.
        deployed: Names of the models that are deployed, in the order of deployment.
        gateways: The gateway of each open request.
        addresses: The data plane of each server that is not lost.
        specs: Every server that ever joined, as it was then; one that is lost may come back.
    """

    def __init__(self) -> None:
        self.models: dict[str, ModelDeployment] = {}
        self.deployed: dict[str, None] = {}
        self.gateways: dict[str, PeerIncarnation] = {}
        self.addresses: dict[str, str] = {}
        self.specs: dict[str, ServerSpec] = {}
        self._servers: dict[str, str] = {}  # by instance
        self._loaded: set[str] = set()  # instances
        self._moves: dict[str, StartMigration] = {}  # by id

    def server_of(self, instance_id: str) -> str:
        """Return the server of an instance; empty if the instance is unknown."""
        return self._servers.get(instance_id, "")

    def address_of(self, instance_id: str) -> str:
        """Return the data plane of an instance's worker; empty if the instance is unknown."""
        return self.addresses.get(self.server_of(instance_id), "")

    def is_loaded(self, instance_id: str) -> bool:
        """Return whether the controller has handled the instance's `LoadFinished`."""
        return instance_id in self._loaded

    def migrations_of(self, request_id: str) -> list[StartMigration]:
        """Return the migrations of a request that have not been reported as ended."""
        return [move for move in self._moves.values() if move.request_id == request_id]

    def note_event(self, event: Event, model: ModelDeployment | None, address: str) -> None:
        """Update the table before the controller handles an event.

        Args:
            event: The event.
            model: The model of a `ModelDeployed`.
            address: The data plane of the worker of a `ServerJoined`.
        """
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
            case ServerJoined(server):
                self.addresses[server.id] = address
                self.specs[server.id] = server
            case ServerLost(server_id):
                self.addresses.pop(server_id, None)
                for instance_id in [i for i, s in self._servers.items() if s == server_id]:
                    self._forget_instance(instance_id)
            case MigrationFinished(move_id) | MigrationFailed(move_id):
                self._moves.pop(move_id, None)
            case _:
                pass

    def note_command(self, command: Command) -> None:
        """Update the table after `addressed_order` has translated a command."""
        match command:
            case LaunchInstance(_, instance_id, _, server_id):
                self._servers[instance_id] = server_id
            case StopInstance(_, instance_id):
                self._forget_instance(instance_id)
            case StartMigration(_, move_id):
                self._moves[move_id] = command
            case RejectRequest(_, request_id) | TimeOutRequest(_, request_id):
                self.gateways.pop(request_id, None)
            case _:
                pass

    def note_end(self, event: Event, request_states: Container[str]) -> None:
        """Remove the requests that ended with an event.

        Args:
            event: An event that the controller has handled.
            request_states: The requests that are open after it.
        """
        match event:
            case (
                InferenceFinished(request_id)
                | InferenceFailed(request_id)
                | InferenceStopped(request_id)
                | RequestCancelled(request_id)
            ) if request_id not in request_states:
                self.gateways.pop(request_id, None)
            case InstanceLost() | LoadFailed() | ServerLost():
                for request_id in [one for one in self.gateways if one not in request_states]:
                    del self.gateways[request_id]
            case _:
                pass

    def _forget_instance(self, instance_id: str) -> None:
        self._servers.pop(instance_id, None)
        self._loaded.discard(instance_id)
        for move in [one for one in self._moves.values() if one.destination_id == instance_id]:
            del self._moves[move.move_id]
