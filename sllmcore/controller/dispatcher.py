"""Dispatching: decisions of the scheduler for waiting requests, and their execution."""

from collections.abc import Iterable
from typing import assert_never

from sllmcore.cluster.instance import Instance
from sllmcore.cluster.request_state import WAITING, RequestState
from sllmcore.cluster.state import ClusterState
from sllmcore.controller.launcher import Launcher
from sllmcore.controller.migrations import Migrations
from sllmcore.controller.pending import ANY_SERVER, PendingQueue
from sllmcore.controller.request_states import RequestStates
from sllmcore.decisions import (
    Launch,
    MigrateThenLaunch,
    PreemptThenLaunch,
    Refuse,
    Start,
    WaitForGPUs,
    WaitForServers,
)
from sllmcore.protocols import Scheduler
from sllmcore.types import Placement


class Dispatcher:
    """Asks the scheduler for a decision about one request at a time and carries it out.

    After a `WaitForGPUs` for a model of n GPUs, requests for cold models of n or more GPUs wait
    until GPUs become available. So an overloaded cluster makes about one decision per event.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        cluster: ClusterState,
        pending: PendingQueue,
        launcher: Launcher,
        migrations: Migrations,
        request_states: RequestStates,
    ) -> None:
        self.scheduler = scheduler
        self._cluster = cluster
        self._pending = pending
        self._launcher = launcher
        self._migrations = migrations
        self._request_states = request_states
        self._blocked_gpus: int | None = None  # requests for cold models of this many GPUs wait

    def dispatch_arrival(self, request_state: RequestState, now_s: float) -> None:
        """Decide for a request that has just arrived, or let it wait if its model is blocked."""
        model = request_state.request.model
        num_gpus = self._cluster.checkpoints[model].num_gpus
        blocked = self._blocked_gpus is not None and num_gpus >= self._blocked_gpus
        if blocked and not self._cluster.open_instances(model):
            self._pending.add(request_state, num_gpus)
        else:
            self.decide(request_state, now_s)

    def dispatch_waiting(
        self, servers: Iterable[str], requeued: Iterable[RequestState], now_s: float
    ) -> None:
        """Decide for the requests that may start on the GPUs now available on `servers`.

        In this order: `requeued` requests with an open instance of their model, which need no GPUs;
        requests that wait for GPUs of `servers` or of any server; the others, oldest first.
        """
        self._blocked_gpus = None
        if not self._pending:
            return
        for request_state in requeued:
            model = request_state.request.model
            if request_state.phase is WAITING and self._cluster.open_instances(model):
                self.decide(request_state, now_s)
        for server_id in servers:
            self._dispatch_parked(server_id, now_s)
        for request_state in self._pending.parked(ANY_SERVER):
            self.decide(request_state, now_s)
        while (oldest := self._pending.oldest(self._blocked_gpus)) is not None:
            self.decide(oldest, now_s)

    def dispatch_parked_of(self, models: Iterable[str], now_s: float) -> None:
        """Decide for the requests for `models` that wait for GPUs of particular servers."""
        for model in models:
            for request_state in self._pending.parked_of(model):
                self.decide(request_state, now_s)

    def _dispatch_parked(self, server_id: str, now_s: float) -> None:
        """Decide for the requests that wait for GPUs of this server and fit those available."""
        server, checkpoints = self._cluster.servers.get(server_id), self._cluster.checkpoints
        for request_state in self._pending.parked(server_id):
            if server is None or not server.num_available:
                break
            if checkpoints[request_state.request.model].num_gpus <= server.num_available:
                self.decide(request_state, now_s)

    def decide(self, request_state: RequestState, now_s: float) -> None:
        """Ask the scheduler about one request and carry out the decision."""
        request = request_state.request
        decision = self.scheduler.decide(request, self._cluster, now_s)
        match decision:
            case Start(instance_id):
                instance = self._cluster.instances[instance_id]
                self._request_states.bind(request_state, instance, now_s)
            case Launch(placement):
                self._launch(request_state, placement, [], now_s)
            case MigrateThenLaunch(placement, plans):
                victims = [self._migrations.begin(plan, now_s) for plan in plans]
                self._launch(request_state, placement, victims, now_s)
            case PreemptThenLaunch(placement, victim_ids):
                victims = [self._cluster.instances[victim_id] for victim_id in victim_ids]
                for victim in victims:
                    self._migrations.preempt(victim)
                self._launch(request_state, placement, victims, now_s)
            case WaitForServers(server_ids):
                self._pending.park(request_state, server_ids or (ANY_SERVER,))
            case WaitForGPUs():
                num_gpus = self._cluster.checkpoints[request.model].num_gpus
                self._pending.add(request_state, num_gpus)
                if self._blocked_gpus is None or num_gpus < self._blocked_gpus:
                    self._blocked_gpus = num_gpus
            case Refuse(reason):
                self._request_states.close_waiting(request_state)
                self._request_states.reject(request.id, reason)
            case _:
                assert_never(decision)

    def _launch(
        self,
        request_state: RequestState,
        placement: Placement,
        victims: list[Instance],
        now_s: float,
    ) -> None:
        instance = self._launcher.launch(
            request_state.request.model,
            placement.server_id,
            placement.gpu_indices,
            victims,
            now_s,
            placement.helpers,
        )
        self._request_states.bind(request_state, instance, now_s)
