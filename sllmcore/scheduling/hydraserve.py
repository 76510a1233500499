"""The HydraServe policy: fetch a checkpoint over the networks of several servers.

HydraServe (arXiv 2502.15524; the policy of its artifact) splits the load of a cold model over up to
four servers, which serve as a pipeline until one of them has the whole model. One part has a GPU of
its own, the others share GPUs with running instances. The number of parts is the smallest for which

    tpot * (parts - 1 + 1 / parts) + hop * (parts - 1) <= TPOT objective
    size / parts / band + prefill * (parts - 1 + 1 / parts) + waited + margin < TTFT objective

where `band` is the smallest bandwidth available on the chosen networks (`nic_shares`). If no number
is sufficient, there is one part, on the server with the most available bandwidth. A model that is
in a server's DRAM or on its SSD is loaded there, without a split.

Differences from HydraServe: a decision launches one instance, not several as one pipeline; helpers
do not become instances; models of several GPUs are not split; a part does not slow down the GPU on
which it lies. A split load leaves no copy in the cache tiers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sllmcore.decisions import Decision, Launch, Start
from sllmcore.errors import UsageError
from sllmcore.migration_predictor import MigrationProfile
from sllmcore.protocols import ClusterView, ServerView
from sllmcore.scheduling.launch_search import LaunchSearch, ready_instance, soonest_instance
from sllmcore.scheduling.nic_shares import (
    available_bytes_per_s,
    consolidation_bytes,
    fetches_on,
    part_bytes,
)
from sllmcore.scheduling.startup_time import wait_decision
from sllmcore.types import CACHE_TIERS, REMOTE, Checkpoint, Placement, Request


@dataclass(frozen=True, slots=True)
class SplitSettings:
    """HydraServe's objectives and constants.

    Args:
        max_parts: Largest number of servers for one load.
        ttft_slo_s: Objective for the time from the arrival to the first token.
        tpot_slo_s: Objective for the time per output token.
        margin_s: Duration of a cold start apart from the transfer.
        hop_s: Latency between two stages of a pipeline.

    Raises:
        UsageError: A value is out of its range.
    """

    max_parts: int = 4
    ttft_slo_s: float = 7.5
    tpot_slo_s: float = 0.2
    margin_s: float = 2.0
    hop_s: float = 0.001

    def __post_init__(self) -> None:
        if self.max_parts < 1:
            raise UsageError(f"max_parts must be >= 1, got {self.max_parts}")
        for name in ("ttft_slo_s", "tpot_slo_s"):
            if getattr(self, name) <= 0:
                raise UsageError(f"{name} must be positive, got {getattr(self, name)}")
        if self.margin_s < 0 or self.hop_s < 0:
            raise UsageError(f"margin_s and hop_s must not be negative, got {self}")


@dataclass(frozen=True, slots=True)
class _Network:
    """A server that may fetch a part, and the bandwidth that its network has available."""

    server: ServerView
    bytes_per_s: float
    num_fetches: int


class HydraServeScheduler:
    """Chooses a ready instance, the soonest launch from a cache tier, or a split load.

    Args:
        launches: Finds the soonest launch.
        settings: Objectives and constants.
        profile: The speed of models that are not in `profiles`.
        profiles: The speed of models, by model.
    """

    def __init__(
        self,
        launches: LaunchSearch,
        settings: SplitSettings,
        profile: MigrationProfile,
        profiles: Mapping[str, MigrationProfile],
    ) -> None:
        self._launches = launches
        self._settings = settings
        self._profile = profile
        self._profiles = profiles

    def decide(self, request: Request, cluster: ClusterView, now_s: float) -> Decision:
        """Return `Start`, `Launch`, or how to wait."""
        instances = cluster.open_instances(request.model)
        ready = ready_instance(instances)
        if ready is not None:
            return Start(ready.id)
        checkpoint = cluster.checkpoints[request.model]
        placement = self._launches.best(checkpoint, cluster, now_s)
        loading = soonest_instance(instances)
        if placement is None:
            return (
                wait_decision(cluster, checkpoint.num_gpus)
                if loading is None
                else Start(loading.id)
            )
        if loading is not None and loading.ready_at_s - now_s <= placement.load.total_s:
            return Start(loading.id)
        if placement.load.source is REMOTE and checkpoint.num_gpus == 1:
            placement = self._split_placement(request, checkpoint, cluster, now_s) or placement
        return Launch(placement)

    def _split_placement(
        self, request: Request, checkpoint: Checkpoint, cluster: ClusterView, now_s: float
    ) -> Placement | None:
        """Return where to fetch a model that no cache tier holds.

        None if every candidate holds a part of the model.
        """
        mains = self._networks(self._main_servers(checkpoint, cluster), cluster, now_s)
        if not mains:
            return None
        main = mains[0]
        if main.bytes_per_s > 0 and not self._meets_slos(request, checkpoint, [main], now_s):
            helpers = self._networks(
                self._helper_servers(main, checkpoint, cluster, now_s), cluster, now_s
            )
            able = [main, *(network for network in helpers if network.bytes_per_s > 0)]
            for parts in range(2, min(self._settings.max_parts, len(able)) + 1):
                if self._meets_slos(request, checkpoint, able[:parts], now_s):
                    return self._placement(checkpoint, able[:parts], now_s)
        return self._placement(checkpoint, [main], now_s)

    def _main_servers(self, checkpoint: Checkpoint, cluster: ClusterView) -> list[ServerView]:
        return [
            server
            for server in cluster.servers_with(1, self._launches.max_candidates)
            if server.could_hold(checkpoint) and not _holds(server, checkpoint.model)
        ]

    def _helper_servers(
        self, main: _Network, checkpoint: Checkpoint, cluster: ClusterView, now_s: float
    ) -> list[ServerView]:
        """Return other servers with GPU memory for a part, even without an available GPU."""
        most = checkpoint.size_bytes / 2
        return [
            server
            for server in cluster.servers_with(0, self._launches.max_candidates)
            if server.id != main.server.id
            and not server.draining
            and _spare_bytes(server, cluster, now_s) >= most
        ]

    def _networks(
        self, servers: list[ServerView], cluster: ClusterView, now_s: float
    ) -> list[_Network]:
        """Return the networks of `servers`, most available bandwidth first.

        Ties: fewest fetches, then joined first.
        """
        found = []
        for server in servers:
            fetches = fetches_on(server, cluster, now_s, self._settings.ttft_slo_s)
            share = available_bytes_per_s(server, fetches, now_s)
            found.append(_Network(server, share, len(fetches)))
        return sorted(found, key=lambda n: (-n.bytes_per_s, n.num_fetches, n.server.join_index))

    def _meets_slos(
        self, request: Request, checkpoint: Checkpoint, chosen: list[_Network], now_s: float
    ) -> bool:
        """Return True if one part over each of these networks meets both objectives."""
        settings, parts = self._settings, len(chosen)
        band = min(network.bytes_per_s for network in chosen)
        profile = self._profiles.get(checkpoint.model, self._profile)
        slower = parts - 1 + 1 / parts
        tpot_s = profile.output_token_s * slower + settings.hop_s * (parts - 1)
        prefill_s = profile.per_token_s * request.input_tokens + profile.fixed_s
        fetch_s = checkpoint.size_bytes / parts / band
        waited_s = now_s - request.arrived_at_s
        ttft_s = fetch_s + prefill_s * slower + waited_s + settings.margin_s
        return tpot_s <= settings.tpot_slo_s and ttft_s < settings.ttft_slo_s

    def _placement(
        self, checkpoint: Checkpoint, chosen: list[_Network], now_s: float
    ) -> Placement | None:
        server = chosen[0].server
        gpus = server.pick_gpus(1)
        if gpus is None:
            return None
        load = self._launches.estimator.estimate(checkpoint, server, now_s)
        load = replace(load, transfer_s=load.transfer_s / len(chosen))
        helpers = tuple(network.server.id for network in chosen[1:])
        return Placement(server.id, gpus, load, helpers)


def _holds(server: ServerView, model: str) -> bool:
    return any(server.resident_bytes(tier, model) for tier in CACHE_TIERS)


def _spare_bytes(server: ServerView, cluster: ClusterView, now_s: float) -> float:
    """Return the free memory of the GPU with the least weights, in bytes.

    Pessimistic: all helper parts on this server are assumed to lie on that GPU.
    """
    used = [0.0] * server.spec.num_gpus
    for instance in server.instances.values():
        share = cluster.checkpoints[instance.model].size_bytes / instance.num_gpus
        for index in instance.gpu_indices:
            used[index] = max(used[index], share)
    parts = sum(
        part_bytes(instance, cluster)
        for instance in server.helped.values()
        if not instance.ready or consolidation_bytes(instance, cluster, now_s) > 0
    )
    return server.spec.gpu_memory_bytes - min(used) - parts
