"""Prewarming: WarmServe's forecast and scores, for one model per GPU.

WarmServe (arXiv 2512.09472 v2) plans every few minutes which models to prewarm, from a forecast of
demand (`sllmcore.demand`). Take a model for which `mean` open requests on average and `peak` at
most are forecast, with `slots` requests per instance and `running` instances with requests:

    foundation = max(ceil(mean / slots) - running, 0)
    burst      = max(ceil(peak / slots) - running - foundation, 0)
    score(i)   = exp(-i / (foundation + burst)) * size / num_gpus / 32 GB/s
                 * (1 if i < foundation else peak / mean)

for its replicas i = 0, 1, ... In the order of falling scores, each replica takes the GPUs with the
least total score of idle instances. It is not launched if one of those scores as high as the
replica itself.

Differences from WarmServe: a GPU holds one instance, not several prewarmed models of which a burst
keeps one; there is no autoscaler, because each request without a slot launches an instance here.
Ties between scores go to the model with more forecast requests, ties between GPUs to the shortest
expected load.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, exp, fsum

from sllmcore.decisions import Prewarm
from sllmcore.demand import Demand, OpenRequestCounts
from sllmcore.protocols import (
    ClusterView,
    LoadingTimeEstimator,
    RequestWatcher,
    ServerView,
)
from sllmcore.types import CACHE_TIERS, Checkpoint, Placement

SCORED_BYTES_PER_S = 32e9  # WarmServe's constant, PCIe 4.0 x16


@dataclass(frozen=True, slots=True)
class PrewarmSettings:
    """The windows of the demand forecast. A plan is made at the start of each window.

    Args:
        window_s: Time between two plans.
        period_s: Time after which demand is expected to repeat, a day by default.
        depth: Number of closed windows that correct the forecast. After more than `depth` windows
            without an open request, planning pauses until the next request.

    Raises:
        UsageError: The values are not valid for `Demand`.
    """

    window_s: float = 300.0
    period_s: float = 86400.0
    depth: int = 10

    def __post_init__(self) -> None:
        Demand(self.window_s, self.period_s, self.depth)  # checks the values


@dataclass(frozen=True, slots=True)
class _Replica:
    """An instance that a model should have in addition to its present ones."""

    checkpoint: Checkpoint
    score: float
    num_requests: float  # mean forecast of its model

    @property
    def rank(self) -> tuple[float, float, str]:
        """Sort key: highest score first, then most forecast requests, then by name."""
        return (-self.score, -self.num_requests, self.checkpoint.model)


@dataclass(frozen=True, slots=True)
class _GpuChoice:
    """GPUs of one server, and the scores that are lost if a replica takes them."""

    server: ServerView
    gpu_indices: tuple[int, ...]
    displaced: tuple[float, ...]  # scores of the idle instances to be stopped


class WarmServePrewarmer:
    """A prewarmer that plans at the start of each window.

    Args:
        max_candidates: Number of servers considered per tier for one replica.
    """

    def __init__(
        self, settings: PrewarmSettings, estimator: LoadingTimeEstimator, max_candidates: int = 8
    ) -> None:
        self._demand = Demand(settings.window_s, settings.period_s, settings.depth)
        self._depth = settings.depth
        self._estimator = estimator
        self._max_candidates = max_candidates
        self._due = False  # a window has begun without a plan yet

    @property
    def watcher(self) -> RequestWatcher:
        """The demand, which counts every request that opens or closes."""
        return self._demand

    def advance(self, now_s: float) -> None:
        """Advance the clock to `now_s`."""
        self._due = self._demand.advance(now_s) or self._due

    @property
    def next_wakeup_s(self) -> float | None:
        """The start of the window to plan for; None after more than `depth` quiet windows."""
        demand = self._demand
        if demand.quiet_windows > self._depth:
            return None
        return demand.window_began_at_s if self._due else demand.window_ends_at_s

    def plan(self, cluster: ClusterView, now_s: float) -> Sequence[Prewarm]:
        """Return the launches for the current window, highest score first."""
        self._due = False
        wanted, scores = self._missing_replicas(cluster)
        taken: dict[str, set[int]] = {}
        plan = []
        for replica in wanted:
            placement = self._place(
                replica=replica, cluster=cluster, scores=scores, taken=taken, now_s=now_s
            )
            if placement is not None:
                taken.setdefault(placement.server_id, set()).update(placement.gpu_indices)
                plan.append(Prewarm(replica.checkpoint.model, placement))
        return plan

    def _missing_replicas(self, cluster: ClusterView) -> tuple[list[_Replica], dict[str, float]]:
        """Return the missing replicas, highest score first; and scores of idle instances by id."""
        running: Counter[str] = Counter()
        warm: dict[str, list[str]] = {}
        for instance in cluster.instances.values():
            if instance.idle_since_s is not None:
                warm.setdefault(instance.model, []).append(instance.id)
            running[instance.model] += bool(instance.requests)
        wanted: list[_Replica] = []
        scores: dict[str, float] = {}
        for model, forecast in self._demand.forecast():
            slots = cluster.num_slots[model]
            replicas = _replicas(cluster.checkpoints[model], slots, running[model], forecast)
            there = warm.get(model, [])[: len(replicas)]
            scores.update(zip(there, (replica.score for replica in replicas), strict=False))
            wanted += replicas[len(there) :]
        wanted.sort(key=lambda replica: replica.rank)
        return wanted, scores

    def _place(
        self,
        replica: _Replica,
        cluster: ClusterView,
        scores: dict[str, float],
        taken: dict[str, set[int]],
        now_s: float,
    ) -> Placement | None:
        """Return the placement with the least lost score; None if each loses too much."""
        best: tuple[float, float, int] | None = None
        found: Placement | None = None
        for server in self._candidates(replica.checkpoint, cluster):
            gone = taken.get(server.id, set())
            choice = _choose_gpus(server, replica.checkpoint.num_gpus, scores, gone)
            if choice is None or any(score >= replica.score for score in choice.displaced):
                continue
            load = self._estimator.estimate(replica.checkpoint, server, now_s)
            key = (fsum(choice.displaced), load.total_s, server.join_index)
            if best is None or key < best:
                best, found = key, Placement(server.id, choice.gpu_indices, load)
        return found

    def _candidates(self, checkpoint: Checkpoint, cluster: ClusterView) -> Iterator[ServerView]:
        """Yield servers that hold the model in a tier, then some with enough available GPUs."""
        limit, seen = self._max_candidates, set[str]()
        places = [cluster.holders(tier, checkpoint.model, limit) for tier in CACHE_TIERS]
        for servers in (*places, cluster.servers_with(checkpoint.num_gpus, limit)):
            for server in servers:
                if server.id not in seen and server.could_hold(checkpoint):
                    seen.add(server.id)
                    yield server


def _replicas(
    checkpoint: Checkpoint, slots: int, running: int, forecast: OpenRequestCounts
) -> list[_Replica]:
    """Return the replicas that a model should have besides its `running` instances."""
    foundation = max(ceil(forecast.mean / slots) - running, 0)
    burst = max(ceil(forecast.peak / slots) - running - foundation, 0)
    most = foundation + burst
    worth = checkpoint.size_bytes / checkpoint.num_gpus / SCORED_BYTES_PER_S
    burstiness = forecast.peak / forecast.mean if forecast.mean > 0 else 1.0
    return [
        _Replica(
            checkpoint,
            exp(-i / most) * worth * (1.0 if i < foundation else burstiness),
            forecast.mean,
        )
        for i in range(most)
    ]


def _choose_gpus(
    server: ServerView, num_gpus: int, scores: dict[str, float], taken: set[int]
) -> _GpuChoice | None:
    """Choose free GPUs, then those of the idle instances with the lowest scores."""
    if server.num_available < num_gpus:
        return None
    free = [index for index in server.free_gpus() if index not in taken]
    if len(free) >= num_gpus:
        return _GpuChoice(server, tuple(free[:num_gpus]), ())
    if server.num_available == server.num_free:  # its idle instances are not reclaimable
        return None
    idle = [
        instance
        for instance in server.instances.values()
        if instance.idle_since_s is not None and not taken.intersection(instance.gpu_indices)
    ]
    idle.sort(key=lambda instance: scores.get(instance.id, 0.0))
    displaced: list[float] = []
    for instance in idle:
        if len(free) >= num_gpus:
            break
        free += instance.gpu_indices
        displaced.append(scores.get(instance.id, 0.0))
    return (
        _GpuChoice(server, tuple(free[:num_gpus]), tuple(displaced))
        if len(free) >= num_gpus
        else None
    )
