"""The simulated cluster: carries out a controller's commands and tells it what happened."""

from collections.abc import Callable, Iterable, Iterator, Sequence
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
from sllmcore.controller import Controller
from sllmcore.errors import ControlError
from sllmcore.events import (
    Event,
    InferenceFinished,
    InferenceStopped,
    InstanceLost,
    LoadFailed,
    LoadFinished,
    MigrationFailed,
    ModelDeployed,
    RequestArrived,
    RequestCancelled,
    ServerDraining,
    ServerJoined,
    ServerLost,
)
from sllmcore.migration_strategy import StrategyChooser
from sllmcore.workload import WorkloadRequest
from sllmsim.clock import SimClock
from sllmsim.control_link import ControlLink, Sink
from sllmsim.engine import BatchEngine, SimSequence
from sllmsim.links import Hop, Link, Links
from sllmsim.loading import Loading
from sllmsim.migrating import Migrating, MigrationRoute
from sllmsim.server import SimServer
from sllmsim.setup import SimSetup
from sllmsim.splitting import PipelineTiming


class _Instance:
    """An instance as it is: where it runs, and its engine."""

    __slots__ = ("engine", "gpu_indices", "id", "model", "server")

    def __init__(self, command: LaunchInstance, server: SimServer, engine: BatchEngine) -> None:
        self.id = command.instance_id
        self.model = command.model
        self.gpu_indices = command.gpu_indices
        self.server = server
        self.engine = engine


class _Client:
    """What the gateway knows of a request: the job, and the tokens it has sent."""

    __slots__ = ("first_token_at_s", "job", "made_tokens")

    def __init__(self, job: WorkloadRequest) -> None:
        self.job = job
        self.made_tokens = 0
        self.first_token_at_s: float | None = None


class SimCluster:
    """Runs one controller against simulated servers.

    Args:
        controller: Fresh: it learns of models and servers here.
        setup: The truth.
        jobs: In order of arrival; read one ahead, never all at once.
        sinks: Called after each event with the time, the event and the commands it caused.
        rebuild: Makes a controller from what the journal holds, after a `ControllerCrash`.
    """

    def __init__(
        self,
        controller: Controller,
        setup: SimSetup,
        jobs: Iterable[WorkloadRequest],
        sinks: Sequence[Sink] = (),
        rebuild: Callable[[], Controller] | None = None,
    ) -> None:
        self.clock = SimClock()
        self.control = ControlLink(
            self.clock, controller, self._heard, self._execute, sinks, rebuild
        )
        self.links = Links(self.clock)
        self.setup = setup
        self.servers: dict[str, SimServer] = {}
        self._jobs: Iterator[WorkloadRequest] = iter(jobs)
        self._loading = Loading(self.clock, self.links, setup, self.control.tell, self._retime)
        auto = setup.migration.strategy == "auto"
        self._chooser = StrategyChooser() if auto else None
        self._migrating = Migrating(
            self.clock,
            self.links,
            self._loading.splits,
            setup.migration,
            self._chooser,
            self.control.tell,
        )
        self._models = {model.checkpoint.model: model for model in setup.models}
        self._built = {server.id: SimServer(server) for server in setup.servers}
        self._joins: dict[str, ServerJoined] = {}  # of the servers that are there
        self._sessions: dict[str, SimServer] = {}  # those whose join the controller has heard of
        self._instances: dict[str, _Instance] = {}
        self._clients: dict[str, _Client] = {}
        self._no_more_jobs = False

    def run(self) -> None:
        """Play all jobs to their end."""
        for model in self.setup.models:
            self.control.tell(ModelDeployed(model.checkpoint, model.num_slots))
        for server in self.setup.servers:
            self.join(server.id)
        self._next_arrival()
        self.clock.run()

    @property
    def over(self) -> bool:
        """No request is under way, and none will come."""
        return self._no_more_jobs and not self._clients

    # Requests.

    def _next_arrival(self) -> None:
        job = next(self._jobs, None)
        if job is None:
            self._no_more_jobs = True
        else:
            arrived_at_s = job.request.arrived_at_s
            if arrived_at_s < self.clock.now - 1e-9:
                raise ControlError(f"{job.request.id} arrives before the request ahead of it")
            self.clock.call_at(arrived_at_s, lambda _: self._arrive(job))

    def _arrive(self, job: WorkloadRequest) -> None:
        request = job.request
        self._clients[request.id] = _Client(job)
        if job.cancel_at_s is not None:
            self.clock.call_at(job.cancel_at_s, lambda _: self._give_up(request.id))
        self.control.tell(RequestArrived(request))
        self._next_arrival()

    def _give_up(self, request_id: str) -> None:
        if request_id in self._clients:
            self.control.tell(RequestCancelled(request_id))

    def _heard(self, event: Event) -> None:
        """The controller is about to hear of something: from now on it counts on it."""
        match event:
            case LoadFinished(instance_id):
                self._loading.told(instance_id)
            case RequestCancelled(request_id):
                self._clients.pop(request_id, None)
            case ServerJoined(server) if self._joins.get(server.id) is event:
                self._sessions[server.id] = self.servers[server.id]
            case _:
                pass

    # Commands from the controller.

    def _execute(self, command: Command) -> None:
        match command:
            case StartRequest(_, request_id, instance_id, _):
                self._infer(request_id, instance_id)
            case LaunchInstance():
                self._load(command)
            case StopInstance(_, instance_id):
                self._unload(instance_id)
            case EvictCopy(_, server_id, tier, model, keep_bytes):
                if server_id in self._sessions:
                    self._sessions[server_id].evict(tier, model, keep_bytes)
            case StartMigration():
                self._resume(command)
            case AbortMigration(_, move_id):
                self._migrating.abort(move_id, "the source has ended")
            case StopRequest(_, request_id, instance_id):
                self._stop(request_id, instance_id)
            case RejectRequest(_, request_id) | TimeOutRequest(_, request_id):
                del self._clients[request_id]
            case _:
                assert_never(command)

    def _load(self, command: LaunchInstance) -> None:
        server = self._sessions.get(command.server_id)
        if server is None:  # meant for one that has died, which the controller does not know yet
            return
        server.occupy(command.gpu_indices, command.instance_id)
        model = self._models[command.model]
        engine = BatchEngine(self.clock, model.timing, self._finisher(command.instance_id))
        instance = _Instance(command, server, engine)
        self._instances[command.instance_id] = instance
        helpers = tuple(self._sessions.get(helper_id) for helper_id in command.helpers)
        there = tuple(helper for helper in helpers if helper is not None)
        if len(there) < len(helpers):  # one has died, which the controller does not know yet
            self._break(instance, LoadFailed(instance.id, "a helper is lost"))
        else:
            self._loading.begin(command, model.checkpoint, server, there)

    def _retime(self, instance_id: str, num_parts: int) -> None:
        """From now on an instance runs over so many servers."""
        instance = self._instances[instance_id]
        timing = self._models[instance.model].timing
        instance.engine.retime(timing if num_parts == 1 else PipelineTiming(timing, num_parts))

    def _unload(self, instance_id: str) -> None:
        instance = self._instances.pop(instance_id, None)
        if instance is None:
            return
        self._loading.cancel(instance_id)
        if instance.engine.halt():
            raise ControlError(f"{instance_id} was unloaded while it had requests")
        instance.server.vacate(instance_id)
        self._depart_if_done(instance.server)

    def _infer(self, request_id: str, instance_id: str) -> None:
        instance, client = self._instances.get(instance_id), self._clients.get(request_id)
        if instance is None or client is None:
            return
        job = client.job
        if job.request.model != instance.model:
            raise ControlError(f"{instance_id} runs {instance.model}, not {job.request.model}")
        left_tokens = job.output_tokens - client.made_tokens
        stream = SimSequence(request_id, job.request.input_tokens, left_tokens)
        stream.made_tokens = client.made_tokens
        stream.first_token_at_s = client.first_token_at_s
        if self._chooser is not None:
            self._chooser.begin_prefill(
                request_id, instance.model, stream.context_tokens, self.clock.now
            )
        instance.engine.add(stream)

    def _finisher(self, instance_id: str) -> Callable[[SimSequence], None]:
        def finished(stream: SimSequence) -> None:
            self._clients.pop(stream.request_id, None)
            first_token_at_s = stream.first_token_at_s
            assert first_token_at_s is not None
            if self._chooser is not None:  # learns now: the engine hands tokens out at the end
                self._chooser.end_prefill(stream.request_id, first_token_at_s)
                self._chooser.forget(stream.request_id)
            self.control.tell(
                InferenceFinished(
                    stream.request_id, instance_id, stream.made_tokens, first_token_at_s
                )
            )

        return finished

    def _stop(self, request_id: str, instance_id: str) -> None:
        instance = self._instances.get(instance_id)
        if instance is None:
            return

        def stopped(stream: SimSequence) -> None:
            client = self._clients.get(request_id)
            if client is not None:
                client.made_tokens = 0  # nothing of a stopped inference is kept
                client.first_token_at_s = stream.first_token_at_s
            self.control.tell(InferenceStopped(request_id, instance_id, stream.made_tokens))

        instance.engine.take(request_id, stopped)

    def _resume(self, command: StartMigration) -> None:
        source = self._instances.get(command.source_id)
        destination = self._instances.get(command.destination_id)
        if destination is None:
            return
        if source is not None:
            route = self._route(source, destination)
            self._migrating.begin(command, source.engine, destination.engine, route)
        else:  # lost while the controller was down: the news of that is ahead of this answer
            move_id, request_id = command.move_id, command.request_id
            self.control.tell(
                MigrationFailed(move_id, request_id, destination.id, "the source is lost")
            )

    def _route(self, source: _Instance, destination: _Instance) -> MigrationRoute:
        hops = destination.server.to_gpus(destination.gpu_indices)
        if source.server is not destination.server:
            hops = (Hop(source.server.nic_out), Hop(destination.server.nic), *hops)
        model = source.model
        return MigrationRoute(
            model,
            self._models[model].kv_bytes_per_token,
            source.server.id,
            destination.server.id,
            hops,
        )

    # Servers and what befalls them.

    def join(self, server_id: str) -> None:
        """A server offers itself, for the first time or again."""
        server = self.servers[server_id] = self._built[server_id]
        joined = ServerJoined(server.hardware.spec(server_id), server.tiers.resident())
        self._joins[server_id] = joined
        self.control.tell(joined)

    def crash_server(self, server_id: str) -> SimServer | None:
        """A server dies with everything on it. Returns it, None if it was not there."""
        server = self.servers.pop(server_id, None)
        if server is None:
            return None
        self._sessions.pop(server_id, None)
        self._joins.pop(server_id, None)
        for instance in [i for i in self._instances.values() if i.server is server]:
            self._lose(instance)
        self._break_helped(server)
        server.crash()
        self.control.tell(ServerLost(server_id))
        return server

    def revive_server(self, server: SimServer) -> None:
        """A server that had crashed comes back with what its SSD holds."""
        self.join(server.id)

    def drain_server(self, server_id: str) -> None:
        """A server leaves as soon as nothing runs there."""
        server = self.servers.get(server_id)
        if server is None:
            return
        server.leaving = True
        self.control.tell(ServerDraining(server_id))
        self._depart_if_done(server)

    def _depart_if_done(self, server: SimServer) -> None:
        """A server that is to leave goes once it is empty."""
        if not (server.leaving and server.empty and self.servers.get(server.id) is server):
            return
        del self.servers[server.id]
        self._sessions.pop(server.id, None)
        self._joins.pop(server.id, None)
        self._break_helped(server)
        self.control.tell(ServerLost(server.id))

    def _break_helped(self, server: SimServer) -> None:
        """The parts on a server are gone, and the instances elsewhere that need them."""
        for instance_id in self._loading.splits.helped_by(server):
            event: InstanceLost | LoadFailed = InstanceLost(instance_id, "a helper is lost")
            if self._loading.loads(instance_id):
                event = LoadFailed(instance_id, "a helper is lost")
            self._break(self._instances[instance_id], event)

    def crash_engine(self, server_id: str) -> None:
        """The engine launched last on a server dies."""
        instances = [i for i in self._instances.values() if i.server.id == server_id]
        if instances:
            instance = instances[-1]
            self._break(instance, InstanceLost(instance.id, "the engine crashed"))

    def fail_loads(self, server_id: str) -> None:
        """The loads under way on a server fail."""
        for instance_id in self._loading.under_way(server_id):
            instance = self._instances.get(instance_id)
            if instance is not None:  # the failure of another one may have called it off
                self._break(instance, LoadFailed(instance_id, "the load failed"))

    def _break(self, instance: _Instance, event: InstanceLost | LoadFailed) -> None:
        """An instance is gone, its server is not."""
        self._lose(instance)
        instance.server.vacate(instance.id)
        self.control.tell(event)
        self._depart_if_done(instance.server)

    def break_migrations(self, server_id: str) -> None:
        """The network of a server is gone: who is moving from or to it stays where it is."""
        for instance in [i for i in self._instances.values() if i.server.id == server_id]:
            for move_id in self._migrating.of_instance(instance.id):
                self._migrating.abort(move_id, "the link was lost")

    def _lose(self, instance: _Instance) -> None:
        """An instance is gone. The gateway keeps the tokens it had sent, if it keeps any."""
        del self._instances[instance.id]
        self._loading.lose(instance.id)
        streams = instance.engine.halt() + self._migrating.in_flight(instance.id)
        self._migrating.source_lost(instance.id)
        self._migrating.destination_lost(instance.id)
        for stream in streams:
            client = self._clients.get(stream.request_id)
            if client is not None:
                client.made_tokens = stream.made_tokens if self.setup.recovers_tokens else 0
                client.first_token_at_s = stream.first_token_at_s

    def all_links(self) -> Iterator[Link]:
        """Every link, for their counts of bytes."""
        if self._loading.storage is not None:
            yield self._loading.storage
        for server in self._built.values():
            yield from (server.nic, server.nic_out, server.ssd_read, server.ssd_write)
            yield from server.pcie
            yield from server.uplinks
