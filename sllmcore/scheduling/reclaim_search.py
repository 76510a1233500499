"""The search for GPUs to reclaim: which instances to vacate so that a model starts soonest."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from sllmcore.errors import UsageError
from sllmcore.protocols import (
    ClusterView,
    InstanceView,
    MigrationTimePredictor,
    RequestStateView,
    ServerView,
)
from sllmcore.scheduling.launch_search import LaunchSearch, ready_instance
from sllmcore.scheduling.victims import Victim, choose_victims
from sllmcore.types import DRAM, Checkpoint, LoadEstimate, MigrationPlan, Placement


@dataclass(frozen=True, slots=True)
class ReclaimPlan:
    """A launch on GPUs that victims leave first, and the expected time until it can serve."""

    placement: Placement
    plans: tuple[MigrationPlan, ...]
    startup_s: float


MayMigrate = Callable[[RequestStateView, float], bool]  # (request, now_s) -> may be a victim


def rested(request_state: RequestStateView, now_s: float) -> bool:
    """Return True unless the request's back-off after failed migrations has not ended."""
    return request_state.backoff_until_s <= now_s


@dataclass(frozen=True, slots=True)
class PreemptedLess:
    """True for requests that were preempted fewer than `limit` times.

    A dataclass instead of a lambda, because a controller is pickled.
    """

    limit: int

    def __call__(self, request_state: RequestStateView, now_s: float) -> bool:
        return request_state.num_preemptions < self.limit


class ReclaimSearch:
    """Finds the reclaim plan with the least expected startup time.

    Candidates are the servers that lack available GPUs for the model and either hold it in DRAM or
    have some, but not enough, available GPUs. Victims are chosen for the least total migration time
    (ServerlessLLM, section 6). They leave at the same time, so the launch waits for the slowest.

    Args:
        launches: Finds destinations for the victims' requests.
        predictor: Predicts migration times.
        max_servers: Number of servers considered per decision.
        may_migrate: Decides which running requests may be victims.

    Raises:
        UsageError: `max_servers` is less than 1.
    """

    def __init__(
        self,
        launches: LaunchSearch,
        predictor: MigrationTimePredictor,
        max_servers: int = 4,
        may_migrate: MayMigrate = rested,
    ) -> None:
        if max_servers < 1:
            raise UsageError(f"max_servers must be >= 1, got {max_servers}")
        self._launches = launches
        self._predictor = predictor
        self._max_servers = max_servers
        self._may_migrate = may_migrate

    def best(
        self, checkpoint: Checkpoint, cluster: ClusterView, now_s: float, below_s: float | None
    ) -> ReclaimPlan | None:
        """Return the soonest reclaim plan; None if none is sooner than `below_s`."""
        best: ReclaimPlan | None = None
        if not cluster.num_servers_with(1):
            return None  # without an available GPU there is no destination
        for server in self._servers(checkpoint, cluster):
            load = self._launches.estimator.estimate(checkpoint, server, now_s)
            if below_s is not None and load.total_s >= below_s:
                continue
            reclaim = self._plan_on(
                server=server,
                checkpoint=checkpoint,
                load=load,
                cluster=cluster,
                now_s=now_s,
                below_s=below_s,
            )
            if reclaim is not None and (below_s is None or reclaim.startup_s < below_s):
                best, below_s = reclaim, reclaim.startup_s
        return best

    def _servers(self, checkpoint: Checkpoint, cluster: ClusterView) -> Iterator[ServerView]:
        seen: set[str] = set()
        limit = self._launches.max_candidates
        places = [cluster.holders(DRAM, checkpoint.model, limit)]
        if checkpoint.num_gpus > 1:  # a server may have some GPUs, but not enough
            places.append(cluster.servers_with(1, limit))
        for servers in places:
            for server in servers:
                if len(seen) >= self._max_servers:
                    return
                lacks_gpus = server.num_available < checkpoint.num_gpus
                if server.id in seen or server.draining or not lacks_gpus:
                    continue
                if server.could_hold(checkpoint):
                    seen.add(server.id)
                    yield server

    def _plan_on(
        self,
        server: ServerView,
        checkpoint: Checkpoint,
        load: LoadEstimate,
        cluster: ClusterView,
        now_s: float,
        below_s: float | None,
    ) -> ReclaimPlan | None:
        """Return the reclaim plan for `server`; None if its victims cannot leave in time."""
        spare_s = None if below_s is None else below_s - load.transfer_s - load.startup_s
        plans = []
        for instance in server.instances.values():
            if self._can_vacate(instance, cluster, now_s):
                plan = self._plan(
                    victim=instance, cluster=cluster, now_s=now_s, taken={}, below_s=spare_s
                )
                if plan is not None:
                    plans.append(plan)
        sizes = [cluster.instances[plan.victim_id].num_gpus for plan in plans]
        victims = [Victim(n, plan.total_s) for n, plan in zip(sizes, plans, strict=True)]
        chosen = choose_victims(victims, checkpoint.num_gpus - server.num_available)
        if chosen is None:
            return None
        final = self._plan_all([plans[i].victim_id for i in chosen], cluster, now_s)
        if final is None:
            return None
        made_s = max(load.queue_s, *(plan.total_s for plan in final))
        placement = Placement(server.id, _launch_gpus(server, checkpoint, final, cluster), load)
        return ReclaimPlan(placement, final, made_s + load.transfer_s + load.startup_s)

    def _can_vacate(self, instance: InstanceView, cluster: ClusterView, now_s: float) -> bool:
        if not instance.ready or instance.leaving or not instance.requests or instance.incoming:
            return False
        request_states = (cluster.request_states[request_id] for request_id in instance.requests)
        return all(
            request_state.can_migrate and self._may_migrate(request_state, now_s)
            for request_state in request_states
        )

    def _plan(
        self,
        victim: InstanceView,
        cluster: ClusterView,
        now_s: float,
        taken: dict[str, tuple[int, ...]],
        below_s: float | None,
    ) -> MigrationPlan | None:
        """Return the soonest migration of one instance's requests to another server.

        None if there is no destination, or none that takes less than `below_s`.
        """
        resume_s = max(
            self._predictor.resume_s(cluster.request_states[request_id], now_s)
            for request_id in victim.requests
        )
        if below_s is not None and resume_s >= below_s:
            return None
        elsewhere = (
            instance
            for instance in cluster.open_instances(victim.model)
            if instance.server_id != victim.server_id
            and instance.free_slots >= len(victim.requests)
            and not taken.get(instance.server_id)
        )
        instance = ready_instance(elsewhere)
        if instance is not None:
            return MigrationPlan(victim.id, instance.id, None, resume_s)
        checkpoint = cluster.checkpoints[victim.model]
        placement = self._launches.best(
            checkpoint, cluster, now_s, excluded_server_id=victim.server_id, taken=taken
        )
        if placement is None:
            return None
        plan = MigrationPlan(victim.id, None, placement, resume_s)
        return plan if below_s is None or plan.total_s < below_s else None

    def _plan_all(
        self, victim_ids: Iterable[str], cluster: ClusterView, now_s: float
    ) -> tuple[MigrationPlan, ...] | None:
        """Plan the migrations of all victims together, without sharing a destination.

        None if there is no destination for one of them.
        """
        taken: dict[str, tuple[int, ...]] = {}
        plans: list[MigrationPlan] = []
        for victim_id in victim_ids:
            plan = self._plan(
                victim=cluster.instances[victim_id],
                cluster=cluster,
                now_s=now_s,
                taken=taken,
                below_s=None,
            )
            if plan is None or plan.instance_id in {p.instance_id for p in plans} - {None}:
                return None
            plans.append(plan)
            if plan.placement is not None:
                server_id = plan.placement.server_id
                taken[server_id] = taken.get(server_id, ()) + plan.placement.gpu_indices
            elif plan.instance_id is not None:
                instance = cluster.instances[plan.instance_id]
                # Only the GPUs of idle instances can be reclaimed.
                if instance.idle_since_s is not None:
                    server_id = instance.server_id
                    taken[server_id] = taken.get(server_id, ()) + instance.gpu_indices
        return tuple(plans)


def _launch_gpus(
    server: ServerView,
    checkpoint: Checkpoint,
    plans: Iterable[MigrationPlan],
    cluster: ClusterView,
) -> tuple[int, ...]:
    """Return the GPUs for the launch: available ones, then those of the victims."""
    gpus = list(server.pick_gpus(server.num_available) or ())
    for plan in plans:
        gpus.extend(cluster.instances[plan.victim_id].gpu_indices)
    return tuple(gpus[: checkpoint.num_gpus])
