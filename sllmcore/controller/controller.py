"""The control plane: processes events with their times and returns commands.

A driver calls `handle` with each event, and with a `WakeUp` when the time `next_wakeup_s` has come.
The controller does not wait and reads no clock, so that the same class runs simulated and real
clusters, and a recorded list of (now_s, event) replays to the same commands.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import assert_never

from sllmcore.cluster.instance import RESERVED, Instance
from sllmcore.cluster.request_state import BOUND, RUNNING, RequestState
from sllmcore.cluster.state import ClusterState
from sllmcore.commands import Command, TimeOutRequest
from sllmcore.controller.dispatcher import Dispatcher
from sllmcore.controller.failures import Failures
from sllmcore.controller.launcher import Launcher
from sllmcore.controller.membership import Membership
from sllmcore.controller.migrations import Migrations
from sllmcore.controller.outbox import CommandOutbox
from sllmcore.controller.pending import PendingQueue
from sllmcore.controller.request_states import RequestStates
from sllmcore.controller.timers import Timers
from sllmcore.decisions import Prewarm
from sllmcore.errors import UsageError
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
    WakeUp,
)
from sllmcore.protocols import (
    ClusterView,
    LoadingTimeEstimator,
    MigrationTimePredictor,
    Prewarmer,
    ResidencyPolicy,
    Scheduler,
)
from sllmcore.types import Request


@dataclass(frozen=True, slots=True)
class ControllerSettings:
    """Settings that do not depend on the policy.

    Args:
        startup_timeout_s: Time after which a request that has not started, or not restarted after
            the loss of its instance, times out; None: never.
        max_load_failures: Number of failed loads after which a waiting request is rejected.
        sequential_loading: True to run one transfer at a time on each I/O path of a server.

    Raises:
        UsageError: A value is not positive.
    """

    startup_timeout_s: float | None = 300.0  # ServerlessLLM's evaluation
    max_load_failures: int = 3
    sequential_loading: bool = True

    def __post_init__(self) -> None:
        if self.startup_timeout_s is not None and self.startup_timeout_s <= 0:
            raise UsageError(f"startup_timeout_s must be positive, got {self.startup_timeout_s}")
        if self.max_load_failures < 1:
            raise UsageError(f"max_load_failures must be >= 1, got {self.max_load_failures}")


class Controller:
    """The state machine of the control plane. Only `handle` changes its state."""

    def __init__(
        self,
        scheduler: Scheduler,
        estimator: LoadingTimeEstimator,
        predictor: MigrationTimePredictor,
        residency: ResidencyPolicy,
        settings: ControllerSettings | None = None,
        prewarmer: Prewarmer | None = None,
    ) -> None:
        self._settings = settings or ControllerSettings()
        self._predictor = predictor
        self._residency = residency
        self._cluster = ClusterState(
            sequential_loading=self._settings.sequential_loading,
            reclaims_idle=residency.reclaims_idle,
        )
        self._outbox = CommandOutbox()
        self._launcher = Launcher(self._cluster, estimator, residency, self._outbox)
        self._timers = Timers(self._cluster)
        self._migrations = Migrations(self._cluster, self._launcher, self._timers, self._outbox)
        self._membership = Membership(self._cluster, self._launcher)
        self._pending = PendingQueue()
        self._request_states = RequestStates(
            cluster=self._cluster,
            pending=self._pending,
            membership=self._membership,
            migrations=self._migrations,
            predictor=predictor,
            outbox=self._outbox,
        )
        self._failures = Failures(
            cluster=self._cluster,
            launcher=self._launcher,
            migrations=self._migrations,
            request_states=self._request_states,
            pending=self._pending,
        )
        self._dispatcher = Dispatcher(
            scheduler=scheduler,
            cluster=self._cluster,
            pending=self._pending,
            launcher=self._launcher,
            migrations=self._migrations,
            request_states=self._request_states,
        )
        self._prewarmer = prewarmer
        if prewarmer is not None:
            self._cluster.watcher = prewarmer.watcher

    @property
    def cluster(self) -> ClusterView:
        """The state of the cluster, read-only."""
        return self._cluster

    @property
    def num_waiting(self) -> int:
        """Number of requests that wait for a decision."""
        return len(self._pending)

    @property
    def next_wakeup_s(self) -> float | None:
        """Time at which to call `handle` with a `WakeUp` if no event comes before; None: never."""
        return self._timers.next_wakeup_s

    @property
    def wakeup_not_before_s(self) -> float:
        """Lower bound of `next_wakeup_s`, in O(1).

        A driver with a timer set for this time or earlier need not read `next_wakeup_s`.
        """
        return self._timers.wakeup_not_before_s

    def audit(self) -> None:
        """Check that the state is consistent, for tests.

        Raises:
            ControlError: The state is inconsistent.
        """
        self._cluster.audit()

    def handle(self, event: Event, now_s: float) -> list[Command]:
        """Process one event; return the commands to carry out, in order.

        Raises:
            ControlError: The driver violated the contract of `sllmcore.events`.
            UsageError: A `ServerJoined` or `ModelDeployed` contradicts the state.
        """
        if self._prewarmer is not None:
            self._prewarmer.advance(now_s)
        match event:
            case RequestArrived(request):
                self._handle_arrival(request, now_s)
            case LoadFinished():
                self._handle_load_finished(event, now_s)
            case InferenceFinished():
                self._request_states.handle_finished(event, now_s)
            case MigrationFinished():
                self._handle_migration_finished(event)
            case WakeUp():
                self._handle_wakeup(now_s)
            case RequestCancelled(request_id):
                self._request_states.cancel(request_id)
            case _:
                self._handle_rare(event, now_s)
        self._settle(now_s)
        if self._prewarmer is not None:
            self._timers.set_plan_time(self._prewarmer.next_wakeup_s)
        return self._outbox.take()

    def _handle_rare(
        self,
        event: MigrationFailed
        | InferenceStopped
        | LoadFailed
        | InferenceFailed
        | InstanceLost
        | ServerJoined
        | ServerDraining
        | ServerLost
        | ModelDeployed
        | ModelDeleted,
        now_s: float,
    ) -> None:
        match event:
            case InferenceStopped(request_id, instance_id):
                self._request_states.handle_stopped(request_id, instance_id)
            case MigrationFailed(move_id):
                self._failures.handle_migration_failed(move_id, now_s)
            case InferenceFailed(request_id, instance_id, reason):
                self._request_states.handle_failed(request_id, instance_id, reason)
            case LoadFailed(instance_id, reason):
                self._failures.handle_load_failed(
                    instance_id, reason, now_s, self._settings.max_load_failures
                )
            case InstanceLost(instance_id):
                self._failures.handle_instance_lost(instance_id, now_s)
            case ServerJoined(server, resident):
                self._cluster.add_server(server, resident)
            case ServerDraining(server_id):
                self._failures.handle_server_draining(server_id)
                self._membership.drain(server_id, now_s)
            case ServerLost(server_id):
                self._failures.handle_server_lost(server_id, now_s)
            case ModelDeployed(checkpoint, num_slots):
                self._membership.deploy(checkpoint, num_slots)
            case ModelDeleted(model):
                self._handle_model_deleted(model, now_s)
            case _:
                assert_never(event)

    def _handle_arrival(self, request: Request, now_s: float) -> None:
        request_state = self._request_states.open(request)
        if request_state is not None:
            self._set_deadline(request_state, now_s)
            self._dispatcher.dispatch_arrival(request_state, now_s)

    def _set_deadline(self, request_state: RequestState, now_s: float) -> None:
        """Let a request time out unless it starts, or restarts, in time."""
        if self._settings.startup_timeout_s is not None:
            self._timers.set_deadline(request_state, now_s + self._settings.startup_timeout_s)

    def _handle_wakeup(self, now_s: float) -> None:
        for request_id in self._timers.due_requests(now_s):
            self._request_states.close_waiting(self._cluster.request_states[request_id])
            self._outbox.add(TimeOutRequest(self._outbox.next_id(), request_id))
        for instance in self._timers.due_instances(now_s):
            self._launcher.stop(instance, now_s)
        for request_state in self._timers.due_backoffs(now_s):
            if request_state.instance is not None:  # its GPUs can be reclaimed again
                self._cluster.worklist.servers[request_state.instance.server_id] = None
        if self._prewarmer is not None and self._timers.plan_due(now_s):
            self._prewarm(self._prewarmer.plan(self._cluster, now_s), now_s)

    def _prewarm(self, plan: Iterable[Prewarm], now_s: float) -> None:
        """Launch instances before demand.

        A prewarmed instance counts as idle while it loads. If another model needs its GPUs before a
        request for this one arrives, the load is cancelled.
        """
        for model, place in ((each.model, each.placement) for each in plan):
            if self._membership.serves(model):
                instance = self._launcher.launch(
                    model, place.server_id, place.gpu_indices, (), now_s
                )
                self._cluster.set_idle(instance, now_s)

    def _handle_load_finished(self, event: LoadFinished, now_s: float) -> None:
        instance = self._cluster.instances.get(event.instance_id)
        if instance is None:
            return
        self._launcher.finish_load(instance, event, now_s)
        for request_id in instance.requests:
            request_state = self._cluster.request_states[request_id]
            if request_state.phase is BOUND:
                self._request_states.start(request_state, instance, now_s)
        self._migrations.start_ready(instance)
        if instance.idle:  # prewarmed
            self._start_keep_alive(instance, now_s)
        self._cluster.worklist.instances[instance.id] = instance

    def _handle_migration_finished(self, event: MigrationFinished) -> None:
        request_state = self._migrations.handle_finished(event.move_id)
        if request_state is not None:
            model = request_state.request.model
            self._predictor.observe_resume(model, event.num_tokens, event.resume_s)

    def _handle_model_deleted(self, model: str, now_s: float) -> None:
        self._membership.delete(model, now_s)
        for request_state in self._pending.of_model(model):
            self._request_states.close_waiting(request_state)
            self._request_states.reject(request_state.request.id, f"model {model} is not deployed")

    def _settle(self, now_s: float) -> None:
        """React to the changes in the worklist, until none is left.

        In this order: instances with changed requests; requests that wait for GPUs, if GPUs became
        available or a request lost its instance; parked requests, if another server now holds their
        model.
        """
        work, instances = self._cluster.worklist, self._cluster.instances
        while work.instances or work.servers or work.models or work.requests:
            while work.instances:
                _, instance = work.instances.popitem()
                if instance.id in instances:
                    self._review(instance, now_s)
            if work.servers or work.requests:
                requeued = work.take_requests()
                for request_state in requeued:
                    if request_state.deadline_at_s is None and request_state.phase is not RUNNING:
                        self._set_deadline(request_state, now_s)
                self._dispatcher.dispatch_waiting(work.take_servers(), requeued, now_s)
            if work.models:
                self._dispatcher.dispatch_parked_of(work.take_models(), now_s)

    def _review(self, instance: Instance, now_s: float) -> None:
        """Give waiting requests to an instance. Without any, make it idle or remove it."""
        while instance.free_slots > 0 and instance.state is not RESERVED:
            request_state = self._pending.oldest_of(instance.model)
            if request_state is None:
                break
            self._request_states.bind(request_state, instance, now_s)
        if instance.requests or instance.incoming:
            return
        if instance.state is RESERVED:
            self._failures.cancel_reservation(instance)
        elif instance.leaving or not instance.ready:  # a load without requests is cancelled
            self._launcher.stop(instance, now_s)
        elif not instance.idle:
            self._cluster.set_idle(instance, now_s)
            self._start_keep_alive(instance, now_s)

    def _start_keep_alive(self, instance: Instance, now_s: float) -> None:
        """Start the keep-alive of an instance that is ready and idle."""
        instance.idle_since_s = now_s
        keep_alive_s = self._residency.instance_keep_alive_s(instance)
        if keep_alive_s is not None:
            self._timers.set_expiry(instance, now_s, keep_alive_s)
