"""A driver that obeys the contract of events and commands, but is otherwise random.

It has no model of time or hardware. Each command takes effect after an arbitrary delay (those to
one server in the order of their ids), each answer comes at an arbitrary time after that, and
everything may fail. So commands and events cross in every way that the contract allows. The driver
keeps the true occupancy of GPUs and the true place of each request; a command that contradicts it
breaks a law.
"""

from collections import deque
from random import Random

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
from sllmcore.controller import Controller
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
    ServerLost,
    WakeUp,
)
from tests.laws.observer import Observer, law
from tests.laws.runs import Log


class Engine:
    """The true state of an instance."""

    def __init__(self, load: LaunchInstance) -> None:
        self.load = load
        self.ready = False
        self.requests: set[str] = set()
        self.stopping: set[str] = set()


class ChaosDriver:
    """The true state, the commands on their way to each server, and the possible next steps."""

    def __init__(self, controller: Controller, rng: Random, observer: Observer, log: Log) -> None:
        self.controller = controller
        self.rng = rng
        self.now_s = 0.0
        self.queues: dict[str, deque[Command]] = {}  # by server id, commands not yet in effect
        self.engines: dict[str, Engine] = {}
        self.moves: dict[str, StartMigration] = {}  # under way
        self.server_ids: dict[str, str] = {}  # by instance id, also of removed instances
        self.log = log
        self._observer = observer

    # Events to the controller, commands to the servers.

    def report(self, event: Event) -> None:
        """Report an event to the controller now and dispatch the resulting commands."""
        commands = self.controller.handle(event, self.now_s)
        self.controller.audit()
        self.log(self.now_s, event, commands)
        self._observer(self.now_s, event, commands)
        for command in commands:
            self._dispatch(command)

    def _dispatch(self, command: Command) -> None:
        match command:
            case LaunchInstance(_, instance_id, _, server_id):
                self.server_ids[instance_id] = server_id
                self._enqueue(server_id, command)
            case EvictCopy(_, server_id):
                self._enqueue(server_id, command)
            case (
                StopInstance(_, instance_id)
                | StartRequest(_, _, instance_id)
                | StopRequest(_, _, instance_id)
            ):
                self._enqueue(self.server_ids[instance_id], command)
            case StartMigration() | AbortMigration():
                self._enqueue(self.server_ids[command.destination_id], command)
            case RejectRequest() | TimeOutRequest():
                pass

    def _enqueue(self, server_id: str, command: Command) -> None:
        if server_id in self.queues:  # else the server is lost, and the controller knows it
            self.queues[server_id].append(command)

    def deliver_one(self, server_id: str) -> None:
        """Carry out the oldest command on its way to a server."""
        command = self.queues[server_id].popleft()
        match command:
            case LaunchInstance():
                self._load(command)
            case StopInstance(_, instance_id):
                if (engine := self.engines.get(instance_id)) is not None:
                    law(
                        not engine.requests,
                        f"{instance_id} is stopped while it runs {engine.requests}",
                    )
                    self._remove_instance(instance_id)
            case StartRequest(_, request_id, instance_id):
                if (engine := self.engines.get(instance_id)) is not None:
                    law(engine.ready, f"{request_id} runs on {instance_id} before it is loaded")
                    engine.requests.add(request_id)
            case StopRequest(_, request_id, instance_id):
                known = self.engines.get(instance_id)
                if known is not None and request_id in known.requests:
                    known.stopping.add(request_id)
            case StartMigration():
                if command.destination_id in self.engines:
                    self.moves[command.move_id] = command
            case AbortMigration(_, move_id):
                if move_id in self.moves:
                    self.fail_migration(move_id)
            case _:
                pass

    def _load(self, load: LaunchInstance) -> None:
        for engine in self.engines.values():
            if engine.load.server_id == load.server_id:
                shared = set(engine.load.gpu_indices) & set(load.gpu_indices)
                law(not shared, f"{load} onto the GPUs of {engine.load.instance_id}")
        self.engines[load.instance_id] = Engine(load)

    def _remove_instance(self, instance_id: str) -> None:
        del self.engines[instance_id]
        for move in [m for m in self.moves.values() if m.destination_id == instance_id]:
            del self.moves[move.move_id]

    # Steps that are possible at any time.

    def finish_load(self, instance_id: str) -> None:
        engine = self.engines[instance_id]
        engine.ready = True
        seconds = self.rng.choice([0.5, 1.0, 4.0])
        source = engine.load.estimate.source
        self.report(
            LoadFinished(
                instance_id=instance_id,
                source=source,
                num_bytes=self.rng.randrange(1, 64),
                transfer_s=seconds,
                startup_s=0.0,
            )
        )

    def fail_load(self, instance_id: str) -> None:
        self._remove_instance(instance_id)
        self.report(LoadFailed(instance_id, "bad luck"))

    def lose_instance(self, instance_id: str) -> None:
        self._remove_instance(instance_id)
        self.report(InstanceLost(instance_id, "bad luck"))

    def lose_server(self, server_id: str) -> None:
        for instance_id in [i for i in self.engines if self.server_ids[i] == server_id]:
            self._remove_instance(instance_id)
        for instance_id in [i for i, e in self.engines.items() if server_id in e.load.helpers]:
            if self.rng.random() < 0.7:  # else the consolidation had ended
                self.lose_instance(instance_id)
        del self.queues[server_id]
        self.report(ServerLost(server_id))

    def finish_inference(self, instance_id: str, request_id: str) -> None:
        self._remove_request(instance_id, request_id)
        tokens = self.rng.randrange(1, 40)
        self.report(InferenceFinished(request_id, instance_id, tokens, self.now_s - 0.5))

    def fail_inference(self, instance_id: str, request_id: str) -> None:
        self._remove_request(instance_id, request_id)
        self.report(InferenceFailed(request_id, instance_id, "bad luck"))

    def stop_inference(self, instance_id: str, request_id: str) -> None:
        self._remove_request(instance_id, request_id)
        self.report(InferenceStopped(request_id, instance_id, self.rng.randrange(40)))

    def _remove_request(self, instance_id: str, request_id: str) -> None:
        self.engines[instance_id].requests.discard(request_id)
        self.engines[instance_id].stopping.discard(request_id)

    def movable(self, move_id: str) -> bool:
        """Return True if the source still runs the request."""
        move = self.moves[move_id]
        source = self.engines.get(move.source_id)
        return source is not None and move.request_id in source.requests

    def finish_migration(self, move_id: str) -> None:
        move = self.moves.pop(move_id)
        self._remove_request(move.source_id, move.request_id)
        self.engines[move.destination_id].requests.add(move.request_id)
        self.report(
            MigrationFinished(
                move_id=move_id,
                request_id=move.request_id,
                source_id=move.source_id,
                destination_id=move.destination_id,
                num_tokens=8,
                resume_s=0.5,
                pause_s=0.125,
            )
        )

    def fail_migration(self, move_id: str) -> None:
        move = self.moves.pop(move_id)
        self.report(MigrationFailed(move_id, move.request_id, move.destination_id, "bad luck"))

    def wake(self) -> None:
        self.report(WakeUp())
