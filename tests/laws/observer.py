"""An observer that checks the laws of a run from its events and commands alone.

After every event: ids rise and time does not decrease; a command refers only to what exists, in the
state that it needs (no effect before its cause); no GPU has two occupants, no tier exceeds its
capacity, no instance has more requests than slots; each request ends once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

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
    RequestArrived,
    RequestCancelled,
    ServerDraining,
    ServerJoined,
    ServerLost,
)
from sllmcore.types import Request
from tests.laws.observed import (
    LawBrokenError,
    ObservedInstance,
    ObservedMigration,
    ObservedRequest,
    ObservedServer,
)


def law(holds: bool, message: str) -> None:
    """Raise LawBrokenError unless `holds`."""
    if not holds:
        raise LawBrokenError(message)


@dataclass(slots=True)
class Observer:
    """A sink: called with each event, its time and the commands it caused."""

    now_s: float = 0.0
    last_id: int = 0
    slots: dict[str, int] = field(default_factory=dict)
    gpus: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    servers: dict[str, ObservedServer] = field(default_factory=dict)
    instances: dict[str, ObservedInstance] = field(default_factory=dict)
    requests: dict[str, ObservedRequest] = field(default_factory=dict)
    moves: dict[str, ObservedMigration] = field(default_factory=dict)
    owed_stops: set[str] = field(
        default_factory=set
    )  # requests that migrated while they were stopped

    def __call__(self, now_s: float, event: Event, commands: Sequence[Command]) -> None:
        law(now_s >= self.now_s, f"time went back from {self.now_s} to {now_s}")
        self.now_s = now_s
        self._event(event)
        for command in commands:
            law(command.id > self.last_id, f"id {command.id} after {self.last_id}")
            self.last_id = command.id
            self._command(command)
        law(not self.owed_stops, f"migrated, and not stopped again: {self.owed_stops}")

    def check_over(self) -> None:
        """Check that nothing is in progress at the end of a run."""
        open_requests = [r.id for r in self.requests.values() if r.end is None]
        law(not open_requests, f"never ended: {open_requests}")
        busy = [i.id for i in self.instances.values() if i.requests or not i.ready]
        law(not busy, f"still busy or loading: {busy}")
        law(not self.moves, f"still migrating: {list(self.moves)}")
        for server in self.servers.values():
            server.check_quiet()

    # Events.

    def _event(self, event: Event) -> None:
        match event:
            case ModelDeployed(checkpoint, num_slots):
                self.slots[checkpoint.model] = num_slots
                self.gpus[checkpoint.model] = checkpoint.num_gpus
                self.sizes[checkpoint.model] = checkpoint.size_bytes
            case ServerJoined(spec, resident):
                self.servers[spec.id] = ObservedServer(spec, resident)
            case ServerDraining(server_id):
                self.servers[server_id].draining = True
            case ServerLost(server_id):
                self._server_lost(server_id)
            case RequestArrived(request):
                self._arrived(request)
            case RequestCancelled(request_id):
                self._cancelled(request_id)
            case ModelDeleted():
                pass
            case _:
                self._answer(event)

    def _answer(self, event: Event) -> None:
        match event:
            case LoadFinished(instance_id):
                if (loaded := self.instances.get(instance_id)) is not None:
                    law(not loaded.ready, f"{instance_id} was loaded twice")
                    loaded.ready = True
                    loaded.server.arrived(loaded)
            case LoadFailed(instance_id) | InstanceLost(instance_id):
                if (lost := self.instances.get(instance_id)) is not None:
                    self._remove_instance(lost)
            case InferenceFinished(request_id, instance_id):
                if self._stops_at(request_id, instance_id):
                    self._end(request_id, "finished")
            case InferenceFailed(request_id, instance_id):
                self._stops_at(request_id, instance_id)
            case InferenceStopped(request_id, instance_id):
                self._stops_at(request_id, instance_id)
            case MigrationFinished(move_id):
                if (done := self.moves.pop(move_id, None)) is not None:
                    self._moved(done)
            case MigrationFailed(move_id):
                self.moves.pop(move_id, None)
            case _:
                pass

    def _arrived(self, request: Request) -> None:
        law(request.id not in self.requests, f"{request.id} arrived twice")
        self.requests[request.id] = ObservedRequest(request.id, request.model)

    def _cancelled(self, request_id: str) -> None:
        request = self.requests[request_id]
        if request.end is None:
            request.end = "cancelled"

    def _stops_at(self, request_id: str, instance_id: str) -> bool:
        """End a request on an instance. Return True if it ran there."""
        request, instance = self.requests[request_id], self.instances.get(instance_id)
        if instance is None or request.instance is not instance:
            return False
        request.instance = None
        request.stopping = False
        instance.requests.discard(request_id)
        return True

    def _moved(self, move: ObservedMigration) -> None:
        request = self.requests[move.request_id]
        law(
            request.instance is move.source,
            f"{request.id} migrated from an instance on which it did not run",
        )
        move.source.requests.discard(request.id)
        move.destination.requests.add(request.id)
        request.instance = move.destination
        if request.stopping:
            self.owed_stops.add(request.id)

    def _end(self, request_id: str, how: str) -> None:
        request = self.requests[request_id]
        if request.end == "cancelled" and how == "finished":
            return  # the answer crossed the cancellation
        law(request.end is None, f"{request_id} was {request.end} and then {how}")
        request.end = how

    def _remove_instance(self, instance: ObservedInstance) -> None:
        del self.instances[instance.id]
        instance.server.vacate(instance)
        for request_id in instance.requests:
            self.requests[request_id].instance = None
            self.requests[request_id].stopping = False
        for move in [m for m in self.moves.values() if m.destination is instance]:
            del self.moves[move.id]

    def _server_lost(self, server_id: str) -> None:
        for instance in [i for i in self.instances.values() if i.server.id == server_id]:
            self._remove_instance(instance)
        self.servers.pop(server_id, None)

    # Commands.

    def _command(self, command: Command) -> None:
        match command:
            case LaunchInstance():
                self._load(command)
            case StopInstance(_, instance_id):
                law(
                    instance_id in self.instances,
                    f"StopInstance of {instance_id}, which does not exist",
                )
                self._unload(self.instances[instance_id])
            case EvictCopy(server_id=server_id, tier=tier, model=model, keep_bytes=keep_bytes):
                law(server_id in self.servers, f"EvictCopy on {server_id}, which does not exist")
                self.servers[server_id].evict(tier, model, keep_bytes)
            case StartRequest():
                self._infer(command)
            case StopRequest(_, request_id, instance_id):
                request = self.requests[request_id]
                law(request.at(instance_id), f"StopRequest of {request_id}, not on {instance_id}")
                request.stopping = True
                self.owed_stops.discard(request_id)
            case StartMigration():
                self._resume(command)
            case AbortMigration(_, move_id):
                law(move_id in self.moves, f"AbortMigration of {move_id}, which is not in progress")
                law(not self.moves[move_id].aborted, f"{move_id} was aborted twice")
                self.moves[move_id].aborted = True
            case RejectRequest(_, request_id):
                law(
                    self.requests[request_id].instance is None,
                    f"{request_id} was rejected while it runs",
                )
                self._end(request_id, "rejected")
            case TimeOutRequest(_, request_id):
                law(
                    self.requests[request_id].instance is None,
                    f"{request_id} timed out while it runs",
                )
                self._end(request_id, "timed out")

    def _load(self, load: LaunchInstance) -> None:
        law(
            load.server_id in self.servers,
            f"LaunchInstance on {load.server_id}, which does not exist",
        )
        law(load.instance_id not in self.instances, f"{load.instance_id} is launched twice")
        server = self.servers[load.server_id]
        law(not server.draining, f"LaunchInstance on {server.id}, which is draining")
        law(len(load.gpu_indices) == self.gpus[load.model], f"wrong number of GPUs: {load}")
        if load.after is not None:
            ahead = self.instances.get(load.after)
            law(
                ahead is not None and not ahead.ready,
                f"{load} follows an instance that does not load",
            )
            law(ahead is None or ahead.server is server, f"{load} follows a load elsewhere")
        law(
            len({load.server_id, *load.helpers}) == 1 + len(load.helpers),
            f"a server appears twice: {load}",
        )
        for helper_id in load.helpers:
            helper = self.servers.get(helper_id)
            law(helper is not None and not helper.draining, f"{helper_id} cannot help {load}")
        law(not (load.helpers and load.cache_in), f"a split load leaves copies: {load}")
        instance = ObservedInstance(load.instance_id, load.model, server, load.gpu_indices)
        self.instances[instance.id] = instance
        server.occupy(instance, self.sizes[load.model], load.cache_in)

    def _unload(self, instance: ObservedInstance) -> None:
        law(not instance.requests, f"StopInstance of {instance.id}, which runs {instance.requests}")
        guests = [m.id for m in self.moves.values() if m.destination is instance]
        law(not guests, f"StopInstance of {instance.id} with incoming migrations {guests}")
        self._remove_instance(instance)

    def _infer(self, infer: StartRequest) -> None:
        request = self.requests[infer.request_id]
        instance = self.instances.get(infer.instance_id)
        law(instance is not None, f"{infer} on an instance that does not exist")
        assert instance is not None
        law(request.end is None, f"{infer} after its request was {request.end}")
        law(request.instance is None, f"{infer} while its request runs")
        law(instance.ready, f"{infer} before its instance is loaded")
        law(instance.model == request.model, f"{infer} on an instance of {instance.model}")
        law(infer.attempt == request.attempt + 1, f"{infer} after attempt {request.attempt}")
        self._check_slot(instance)
        request.attempt = infer.attempt
        request.instance = instance
        instance.requests.add(request.id)

    def _resume(self, resume: StartMigration) -> None:
        request = self.requests[resume.request_id]
        source = self.instances.get(resume.source_id)
        destination = self.instances.get(resume.destination_id)
        law(
            source is not None and destination is not None,
            f"{resume} between instances that do not exist",
        )
        assert source is not None and destination is not None
        law(request.instance is source, f"{resume} of a request that does not run at the source")
        law(not request.stopping, f"{resume} of a request that is being stopped")
        law(destination.ready, f"{resume} before its destination is loaded")
        law(destination.server is not source.server, f"{resume} to the same server")
        law(source.model == destination.model, f"{resume} to another model")
        law(resume.move_id not in self.moves, f"{resume.move_id} is started twice")
        self._check_slot(destination)
        self.moves[resume.move_id] = ObservedMigration(
            resume.move_id, request.id, source, destination
        )

    def _check_slot(self, instance: ObservedInstance) -> None:
        incoming = sum(move.destination is instance for move in self.moves.values())
        taken = len(instance.requests) + incoming
        law(taken < self.slots[instance.model], f"{instance.id} has no slot left: {taken} taken")
