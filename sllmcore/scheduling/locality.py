"""The locality-driven policy: use only the servers that hold the model in the nearest tier.

A request waits while these servers are busy, and no request is migrated or stopped. Second of the
four policies in figure 3 of ServerlessLLM (OSDI'24).
"""

from collections.abc import Iterator

from sllmcore.decisions import Decision, Launch, Start, WaitForServers
from sllmcore.protocols import ClusterView, LoadingTimeEstimator, ServerView
from sllmcore.scheduling.launch_search import open_instance
from sllmcore.scheduling.startup_time import wait_decision
from sllmcore.types import CACHE_TIERS, Checkpoint, LoadEstimate, Placement, Request


class LocalityScheduler:
    """Chooses an open instance, else the soonest launch among the nearest holders of the model.

    Args:
        max_candidates: Number of servers considered per decision.
    """

    def __init__(self, estimator: LoadingTimeEstimator, max_candidates: int = 8) -> None:
        self._estimator = estimator
        self._max_candidates = max_candidates

    def decide(self, request: Request, cluster: ClusterView, now_s: float) -> Decision:
        """Return `Start`, `Launch`, or how to wait."""
        joined = open_instance(cluster.open_instances(request.model))
        if joined is not None:
            return Start(joined.id)
        checkpoint = cluster.checkpoints[request.model]
        found: tuple[ServerView, LoadEstimate] | None = None
        busy: list[str] = []
        for server in self._nearest(checkpoint, cluster):
            if server.num_available < checkpoint.num_gpus:
                busy.append(server.id)
                continue
            load = self._estimator.estimate(checkpoint, server, now_s)
            if found is None or load.total_s < found[1].total_s:
                found = server, load
        if found is None:
            if busy:
                return WaitForServers(tuple(busy))
            return wait_decision(cluster, checkpoint.num_gpus)
        gpus = found[0].pick_gpus(checkpoint.num_gpus)
        assert gpus is not None, f"{found[0].id} has {checkpoint.num_gpus} available GPUs"
        return Launch(Placement(found[0].id, gpus, found[1]))

    def _nearest(self, checkpoint: Checkpoint, cluster: ClusterView) -> Iterator[ServerView]:
        """Return the holders in the nearest tier with any, else servers with available GPUs."""
        for tier in CACHE_TIERS:
            holders = [
                server
                for server in cluster.holders(tier, checkpoint.model, self._max_candidates)
                if not server.draining and server.could_hold(checkpoint)
            ]
            if holders:
                return iter(holders)
        servers = cluster.servers_with(checkpoint.num_gpus, self._max_candidates)
        return (server for server in servers if server.could_hold(checkpoint))
