"""A driver that obeys the contract of events and commands, and nothing else.

It has no model of time or of hardware: each command takes effect after any delay (those to one
server in the order of their ids), each answer comes at any moment after that, anything may fail,
and so commands and events cross in every way that the contract allows. What is true - who holds a
GPU, where a request runs - is kept here, and a command that contradicts it is a broken law.
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
    """An instance as it is."""

    def __init__(self, load: LaunchInstance) -> None:
        self.load = load
        self.ready = False
        self.requests: set[str] = set()
        self.stopping: set[str] = set()


class ChaosDriver:
    """Truth, commands on their way to each server, and what may happen next."""

    def __init__(self, controller: Controller, rng: Random, observer: Observer, log: Log) -> None:
        self.controller = controller
        self.rng = rng
        self.now_s = 0.0
        self.queues: dict[str, deque[Command]] = {}  # by server, commands not yet in effect
        self.engines: dict[str, Engine] = {}
        self.moves: dict[str, StartMigration] = {}  # under way
        self.homes: dict[str, str] = {}  # server by instance id, for ever
        self.log = log
        self._observer = observer

    # Between the controller and the world.

    def tell(self, event: Event) -> None:
        """Let an event happen now."""
        commands = self.controller.handle(event, self.now_s)
        self.controller.audit()
        self.log(self.now_s, event, commands)
        self._observer(self.now_s, event, commands)
        for command in commands:
            self._dispatch(command)

    def _dispatch(self, command: Command) -> None:
        match command:
            case LaunchInstance(_, instance_id, _, server_id):
                self.homes[instance_id] = server_id
                self._enqueue(server_id, command)
            case EvictCopy(_, server_id):
                self._enqueue(server_id, command)
            case (
                StopInstance(_, instance_id)
                | StartRequest(_, _, instance_id)
                | StopRequest(_, _, instance_id)
            ):
                self._enqueue(self.homes[instance_id], command)
            case StartMigration() | AbortMigration():
                self._enqueue(self.homes[command.destination_id], command)
            case RejectRequest() | TimeOutRequest():
                pass

    def _enqueue(self, server_id: str, command: Command) -> None:
        if server_id in self.queues:  # else the server is gone, as the controller knows
            self.queues[server_id].append(command)

    def deliver_one(self, server_id: str) -> None:
        """The oldest command on its way to a server takes effect."""
        command = self.queues[server_id].popleft()
        match command:
            case LaunchInstance():
                self._load(command)
            case StopInstance(_, instance_id):
                if (engine := self.engines.get(instance_id)) is not None:
                    law(not engine.requests, f"{instance_id} is unloaded under {engine.requests}")
                    self._let_go(instance_id)
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

    def _let_go(self, instance_id: str) -> None:
        del self.engines[instance_id]
        for move in [m for m in self.moves.values() if m.destination_id == instance_id]:
            del self.moves[move.move_id]

    # What may happen by itself.

    def finish_load(self, instance_id: str) -> None:
        engine = self.engines[instance_id]
        engine.ready = True
        seconds = self.rng.choice([0.5, 1.0, 4.0])
        source = engine.load.estimate.source
        self.tell(LoadFinished(instance_id, source, self.rng.randrange(1, 64), seconds, 0.0))

    def fail_load(self, instance_id: str) -> None:
        self._let_go(instance_id)
        self.tell(LoadFailed(instance_id, "bad luck"))

    def lose_instance(self, instance_id: str) -> None:
        self._let_go(instance_id)
        self.tell(InstanceLost(instance_id, "bad luck"))

    def lose_server(self, server_id: str) -> None:
        for instance_id in [i for i in self.engines if self.homes[i] == server_id]:
            self._let_go(instance_id)
        for instance_id in [i for i, e in self.engines.items() if server_id in e.load.helpers]:
            if self.rng.random() < 0.7:  # else its parts had joined already
                self.lose_instance(instance_id)
        del self.queues[server_id]
        self.tell(ServerLost(server_id))

    def finish_inference(self, instance_id: str, request_id: str) -> None:
        self._leave(instance_id, request_id)
        tokens = self.rng.randrange(1, 40)
        self.tell(InferenceFinished(request_id, instance_id, tokens, self.now_s - 0.5))

    def fail_inference(self, instance_id: str, request_id: str) -> None:
        self._leave(instance_id, request_id)
        self.tell(InferenceFailed(request_id, instance_id, "bad luck"))

    def stop_inference(self, instance_id: str, request_id: str) -> None:
        self._leave(instance_id, request_id)
        self.tell(InferenceStopped(request_id, instance_id, self.rng.randrange(40)))

    def _leave(self, instance_id: str, request_id: str) -> None:
        self.engines[instance_id].requests.discard(request_id)
        self.engines[instance_id].stopping.discard(request_id)

    def movable(self, move_id: str) -> bool:
        """Whether the source still holds the request, so that it can arrive."""
        move = self.moves[move_id]
        source = self.engines.get(move.source_id)
        return source is not None and move.request_id in source.requests

    def finish_migration(self, move_id: str) -> None:
        move = self.moves.pop(move_id)
        self._leave(move.source_id, move.request_id)
        self.engines[move.destination_id].requests.add(move.request_id)
        self.tell(
            MigrationFinished(
                move_id, move.request_id, move.source_id, move.destination_id, 8, 0.5, 0.125
            )
        )

    def fail_migration(self, move_id: str) -> None:
        move = self.moves.pop(move_id)
        self.tell(MigrationFailed(move_id, move.request_id, move.destination_id, "bad luck"))

    def wake(self) -> None:
        self.tell(WakeUp())
