"""WarmServe's prediction and scores, one model per GPU.

WarmServe (arXiv 2512.09472 v2) plans every few minutes which models to warm, from the demand that
it foresees (`sllmcore.demand`). Of a model that will have `mean` open requests on average and
`peak` at most, with instances of `slots` requests of which `running` have some:

    foundation = max(ceil(mean / slots) - running, 0)
    burst      = max(ceil(peak / slots) - running - foundation, 0)
    score(i)   = exp(-i / (foundation + burst)) * size / num_gpus / 32 GB/s
                 * (1 if i < foundation else peak / mean)

for replica i = 0, 1, ... of it. Highest score first, each replica takes the GPUs whose contents
score least in sum, if none of them scores as high as the replica itself; else it is not warmed.

Left out: GPUs that hold several warmed models, one inside the other, of which a burst keeps one (a
GPU here has one tenant); and WarmServe's own autoscaler, for here each request that finds no slot
launches an instance. Added: between equal scores the model with more forecast requests comes first,
and between equal GPUs those where the load is expected to be shortest.
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
    """When to plan, and from what.

    Args:
        window_s: Between two plans.
        period_s: After which demand repeats: a day.
        depth: Windows that the prediction looks back at; after one more without any request
            there are no plans until the next one comes.
    """

    window_s: float = 300.0
    period_s: float = 86400.0
    depth: int = 10

    def __post_init__(self) -> None:
        Demand(self.window_s, self.period_s, self.depth)  # refuses what it cannot count


@dataclass(frozen=True, slots=True)
class _Replica:
    """One more instance that a model should have."""

    checkpoint: Checkpoint
    score: float
    num_requests: float  # forecast of its model

    @property
    def rank(self) -> tuple[float, float, str]:
        return (-self.score, -self.num_requests, self.checkpoint.model)


@dataclass(frozen=True, slots=True)
class _GpuChoice:
    """GPUs of one server, and what warming something there would cost."""

    server: ServerView
    gpu_indices: tuple[int, ...]
    displaced: tuple[float, ...]  # scores of the idle instances that would go


class WarmServePrewarmer:
    """Plans at the beginning of each window.

    Args:
        max_candidates: How many servers one replica may look at in each tier.
    """

    def __init__(
        self, settings: PrewarmSettings, estimator: LoadingTimeEstimator, max_candidates: int = 8
    ) -> None:
        self._demand = Demand(settings.window_s, settings.period_s, settings.depth)
        self._depth = settings.depth
        self._estimator = estimator
        self._max_candidates = max_candidates
        self._due = False  # a window has begun and was not planned for

    @property
    def watcher(self) -> RequestWatcher:
        return self._demand

    def advance(self, now_s: float) -> None:
        self._due = self._demand.advance(now_s) or self._due

    @property
    def next_wakeup_s(self) -> float | None:
        demand = self._demand
        if demand.quiet_windows > self._depth:
            return None
        return demand.window_began_at_s if self._due else demand.window_ends_at_s

    def plan(self, cluster: ClusterView, now_s: float) -> Sequence[Prewarm]:
        self._due = False
        wanted, scores = self._missing_replicas(cluster)
        taken: dict[str, set[int]] = {}
        plan = []
        for replica in wanted:
            placement = self._place(replica, cluster, scores, taken, now_s)
            if placement is not None:
                taken.setdefault(placement.server_id, set()).update(placement.gpu_indices)
                plan.append(Prewarm(replica.checkpoint.model, placement))
        return plan

    def _missing_replicas(self, cluster: ClusterView) -> tuple[list[_Replica], dict[str, float]]:
        """Replicas that are missing, the highest score first; and what is warm already, scored."""
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
        """Where a replica costs least, if it is worth that."""
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
        """Servers that hold the model, and some with the GPUs for it."""
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
    """Those that a model should have besides the `running` instances."""
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
    """Free GPUs, then those of the idle instances with the least scores."""
    if server.num_available < num_gpus:
        return None
    free = [index for index in server.free_gpus() if index not in taken]
    if len(free) >= num_gpus:
        return _GpuChoice(server, tuple(free[:num_gpus]), ())
    if server.num_available == server.num_free:  # its idle instances give way to nobody
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
