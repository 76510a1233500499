"""The simulated cluster: executes a controller's commands and reports events to it."""

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
    """An instance, with its engine, from its launch until it is stopped or lost."""

    __slots__ = ("engine", "gpu_indices", "id", "model", "server")

    def __init__(self, command: LaunchInstance, server: SimServer, engine: BatchEngine) -> None:
        self.id = command.instance_id
        self.model = command.model
        self.gpu_indices = command.gpu_indices
        self.server = server
        self.engine = engine


class _OpenRequest:
    """A request as its gateway knows it, with the tokens that the gateway has sent."""

    __slots__ = ("first_token_at_s", "item", "made_tokens")

    def __init__(self, item: WorkloadRequest) -> None:
        self.item = item
        self.made_tokens = 0
        self.first_token_at_s: float | None = None


class SimCluster:
    """Simulated servers and requests under one controller.

    Args:
        controller: A fresh one: models and servers are reported to it here.
        setup: The ground truth.
        workload: Requests in order of arrival; read one at a time.
        sinks: Called after each event with the time, the event and the commands it caused.
        rebuild: Makes a controller from the journal, after a `ControllerCrash`.
    """

    def __init__(
        self,
        controller: Controller,
        setup: SimSetup,
        workload: Iterable[WorkloadRequest],
        sinks: Sequence[Sink] = (),
        rebuild: Callable[[], Controller] | None = None,
    ) -> None:
        self.clock = SimClock()
        self.control = ControlLink(
            clock=self.clock,
            controller=controller,
            acknowledge=self._acknowledge,
            execute=self._execute,
            sinks=sinks,
            rebuild=rebuild,
        )
        self.links = Links(self.clock)
        self.setup = setup
        self.servers: dict[str, SimServer] = {}
        self._workload: Iterator[WorkloadRequest] = iter(workload)
        self._loading = Loading(
            clock=self.clock,
            links=self.links,
            setup=setup,
            on_ready=self.control.report,
            retime=self._retime,
        )
        auto = setup.migration.strategy == "auto"
        self._chooser = StrategyChooser() if auto else None
        self._migrating = Migrating(
            clock=self.clock,
            links=self.links,
            splits=self._loading.splits,
            settings=setup.migration,
            chooser=self._chooser,
            on_end=self.control.report,
        )
        self._models = {model.checkpoint.model: model for model in setup.models}
        self._built = {server.id: SimServer(server) for server in setup.servers}
        self._joins: dict[str, ServerJoined] = {}  # of the servers that are up
        self._joined: dict[str, SimServer] = {}  # up, and the controller has handled their join
        self._instances: dict[str, _Instance] = {}
        self._requests: dict[str, _OpenRequest] = {}
        self._workload_ended = False

    def run(self) -> None:
        """Run until all requests have ended."""
        for model in self.setup.models:
            self.control.report(ModelDeployed(model.checkpoint, model.num_slots))
        for server in self.setup.servers:
            self.join(server.id)
        self._next_arrival()
        self.clock.run()

    @property
    def over(self) -> bool:
        """True if all requests of the workload have ended."""
        return self._workload_ended and not self._requests

    # Requests.

    def _next_arrival(self) -> None:
        item = next(self._workload, None)
        if item is None:
            self._workload_ended = True
        else:
            arrived_at_s = item.request.arrived_at_s
            if arrived_at_s < self.clock.now - 1e-9:
                raise ControlError(
                    f"{item.request.id} arrives at {arrived_at_s} s, before the request ahead of "
                    "it: sort the workload by arrival"
                )
            self.clock.call_at(arrived_at_s, lambda _: self._arrive(item))

    def _arrive(self, item: WorkloadRequest) -> None:
        request = item.request
        self._requests[request.id] = _OpenRequest(item)
        if item.cancel_at_s is not None:
            self.clock.call_at(item.cancel_at_s, lambda _: self._cancel(request.id))
        self.control.report(RequestArrived(request))
        self._next_arrival()

    def _cancel(self, request_id: str) -> None:
        if request_id in self._requests:
            self.control.report(RequestCancelled(request_id))

    def _acknowledge(self, event: Event) -> None:
        """Apply the effects of an event that the controller is about to handle."""
        match event:
            case LoadFinished(instance_id):
                self._loading.acknowledge_load(instance_id)
            case RequestCancelled(request_id):
                self._requests.pop(request_id, None)
            case ServerJoined(server) if self._joins.get(server.id) is event:
                self._joined[server.id] = self.servers[server.id]
            case _:
                pass

    # Commands from the controller.

    def _execute(self, command: Command) -> None:
        match command:
            case StartRequest(_, request_id, instance_id, _):
                self._start_request(request_id, instance_id)
            case LaunchInstance():
                self._launch(command)
            case StopInstance(_, instance_id):
                self._stop_instance(instance_id)
            case EvictCopy(server_id=server_id, tier=tier, model=model, keep_bytes=keep_bytes):
                if server_id in self._joined:
                    self._joined[server_id].evict(tier, model, keep_bytes)
            case StartMigration():
                self._start_migration(command)
            case AbortMigration(_, move_id):
                self._migrating.abort(move_id, "the source has ended")
            case StopRequest(_, request_id, instance_id):
                self._stop_request(request_id, instance_id)
            case RejectRequest(_, request_id) | TimeOutRequest(_, request_id):
                del self._requests[request_id]
            case _:
                assert_never(command)

    def _launch(self, command: LaunchInstance) -> None:
        server = self._joined.get(command.server_id)
        if server is None:  # it has crashed, and the controller does not know that yet
            return
        server.occupy(command.gpu_indices, command.instance_id)
        model = self._models[command.model]
        engine = BatchEngine(self.clock, model.timing, self._finisher(command.instance_id))
        instance = _Instance(command, server, engine)
        self._instances[command.instance_id] = instance
        helpers = tuple(self._joined.get(helper_id) for helper_id in command.helpers)
        present = tuple(helper for helper in helpers if helper is not None)
        if len(present) < len(helpers):  # one has crashed: the controller does not know that yet
            self._fail(instance, LoadFailed(instance.id, "a helper is lost"))
        else:
            self._loading.begin(command, model.checkpoint, server, present)

    def _retime(self, instance_id: str, num_parts: int) -> None:
        """Let an instance run over `num_parts` servers from now on."""
        instance = self._instances[instance_id]
        timing = self._models[instance.model].timing
        instance.engine.retime(timing if num_parts == 1 else PipelineTiming(timing, num_parts))

    def _stop_instance(self, instance_id: str) -> None:
        instance = self._instances.pop(instance_id, None)
        if instance is None:
            return
        self._loading.cancel(instance_id)
        if instance.engine.halt():
            raise ControlError(f"{instance_id} was stopped while it had requests")
        instance.server.vacate(instance_id)
        self._depart_if_done(instance.server)

    def _start_request(self, request_id: str, instance_id: str) -> None:
        instance, opened = self._instances.get(instance_id), self._requests.get(request_id)
        if instance is None or opened is None:
            return
        request = opened.item.request
        if request.model != instance.model:
            raise ControlError(f"{instance_id} runs {instance.model}, not {request.model}")
        left_tokens = opened.item.output_tokens - opened.made_tokens
        sequence = SimSequence(request_id, request.input_tokens, left_tokens)
        sequence.made_tokens = opened.made_tokens
        sequence.first_token_at_s = opened.first_token_at_s
        if self._chooser is not None:
            self._chooser.begin_prefill(
                request_id, instance.model, sequence.context_tokens, self.clock.now
            )
        instance.engine.add(sequence)

    def _finisher(self, instance_id: str) -> Callable[[SimSequence], None]:
        def finished(sequence: SimSequence) -> None:
            self._requests.pop(sequence.request_id, None)
            first_token_at_s = sequence.first_token_at_s
            assert first_token_at_s is not None
            if self._chooser is not None:  # learns now: the engine hands tokens out at the end
                self._chooser.end_prefill(sequence.request_id, first_token_at_s)
                self._chooser.forget(sequence.request_id)
            self.control.report(
                InferenceFinished(
                    sequence.request_id, instance_id, sequence.made_tokens, first_token_at_s
                )
            )

        return finished

    def _stop_request(self, request_id: str, instance_id: str) -> None:
        instance = self._instances.get(instance_id)
        if instance is None:
            return

        def stopped(sequence: SimSequence) -> None:
            opened = self._requests.get(request_id)
            if opened is not None:
                opened.made_tokens = 0  # a stopped request keeps no token
                opened.first_token_at_s = sequence.first_token_at_s
            self.control.report(InferenceStopped(request_id, instance_id, sequence.made_tokens))

        instance.engine.take(request_id, stopped)

    def _start_migration(self, command: StartMigration) -> None:
        source = self._instances.get(command.source_id)
        destination = self._instances.get(command.destination_id)
        if destination is None:
            return
        if source is not None:
            route = self._route(source, destination)
            self._migrating.begin(command, source.engine, destination.engine, route)
        else:  # lost while the controller was down, and that event is ahead of this one
            move_id, request_id = command.move_id, command.request_id
            self.control.report(
                MigrationFailed(move_id, request_id, destination.id, "the source is lost")
            )

    def _route(self, source: _Instance, destination: _Instance) -> MigrationRoute:
        hops = destination.server.to_gpus(destination.gpu_indices)
        if source.server is not destination.server:
            hops = (Hop(source.server.nic_out), Hop(destination.server.nic), *hops)
        model = source.model
        return MigrationRoute(
            model=model,
            kv_bytes_per_token=self._models[model].kv_bytes_per_token,
            source_server=source.server.id,
            destination_server=destination.server.id,
            hops=hops,
        )

    # Servers and their faults.

    def join(self, server_id: str) -> None:
        """Let a server join, for the first time or again."""
        server = self.servers[server_id] = self._built[server_id]
        joined = ServerJoined(server.hardware.spec(server_id), server.tiers.resident())
        self._joins[server_id] = joined
        self.control.report(joined)

    def crash_server(self, server_id: str) -> SimServer | None:
        """Crash a server with all its instances. Return the server; None if it is not up."""
        server = self.servers.pop(server_id, None)
        if server is None:
            return None
        self._joined.pop(server_id, None)
        self._joins.pop(server_id, None)
        for instance in [i for i in self._instances.values() if i.server is server]:
            self._lose(instance)
        self._fail_helped(server)
        server.crash()
        self.control.report(ServerLost(server_id))
        return server

    def revive_server(self, server: SimServer) -> None:
        """Let a server that had crashed join again, with the models on its SSD."""
        self.join(server.id)

    def drain_server(self, server_id: str) -> None:
        """Let a server leave as soon as it has no instance."""
        server = self.servers.get(server_id)
        if server is None:
            return
        server.leaving = True
        self.control.report(ServerDraining(server_id))
        self._depart_if_done(server)

    def _depart_if_done(self, server: SimServer) -> None:
        """Remove a draining server that has no instance left."""
        if not (server.leaving and server.empty and self.servers.get(server.id) is server):
            return
        del self.servers[server.id]
        self._joined.pop(server.id, None)
        self._joins.pop(server.id, None)
        self._fail_helped(server)
        self.control.report(ServerLost(server.id))

    def _fail_helped(self, server: SimServer) -> None:
        """Fail the instances on other servers that need a part of their model on this one."""
        for instance_id in self._loading.splits.helped_by(server):
            event: InstanceLost | LoadFailed = InstanceLost(instance_id, "a helper is lost")
            if self._loading.is_loading(instance_id):
                event = LoadFailed(instance_id, "a helper is lost")
            self._fail(self._instances[instance_id], event)

    def crash_engine(self, server_id: str) -> None:
        """Crash the engine that was launched last on a server, if there is one."""
        instances = [i for i in self._instances.values() if i.server.id == server_id]
        if instances:
            instance = instances[-1]
            self._fail(instance, InstanceLost(instance.id, "the engine crashed"))

    def fail_loads(self, server_id: str) -> None:
        """Fail the loads under way on a server."""
        for instance_id in self._loading.loading_on(server_id):
            instance = self._instances.get(instance_id)
            if instance is not None:  # else the failure of another load has ended it
                self._fail(instance, LoadFailed(instance_id, "the load failed"))

    def _fail(self, instance: _Instance, event: InstanceLost | LoadFailed) -> None:
        """Remove an instance from its server, which stays, and report the loss."""
        self._lose(instance)
        instance.server.vacate(instance.id)
        self.control.report(event)
        self._depart_if_done(instance.server)

    def break_migrations(self, server_id: str) -> None:
        """Abort the migrations from and to a server, as when its network is lost."""
        for instance in [i for i in self._instances.values() if i.server.id == server_id]:
            for move_id in self._migrating.of_instance(instance.id):
                self._migrating.abort(move_id, "the link was lost")

    def _lose(self, instance: _Instance) -> None:
        """Remove an instance. Its requests keep their tokens if `setup.recovers_tokens`."""
        del self._instances[instance.id]
        self._loading.lose(instance.id)
        sequences = instance.engine.halt() + self._migrating.in_flight(instance.id)
        self._migrating.source_lost(instance.id)
        self._migrating.destination_lost(instance.id)
        for sequence in sequences:
            opened = self._requests.get(sequence.request_id)
            if opened is not None:
                opened.made_tokens = sequence.made_tokens if self.setup.recovers_tokens else 0
                opened.first_token_at_s = sequence.first_token_at_s

    def all_links(self) -> Iterator[Link]:
        """Yield every link, which counts its bytes."""
        if self._loading.storage is not None:
            yield self._loading.storage
        for server in self._built.values():
            yield from (server.nic, server.nic_out, server.ssd_read, server.ssd_write)
            yield from server.pcie
            yield from server.uplinks
