"""Locality-driven: only where the checkpoint is nearest, however long that server is busy.

The second of the four policies that figure 3 of ServerlessLLM (OSDI'24) compares: a request queues
behind what runs on the server that holds its model, and nobody is ever moved.
"""

from collections.abc import Iterator

from sllmcore.decisions import Decision, Launch, Start, WaitForServers
from sllmcore.protocols import ClusterView, LoadingTimeEstimator, ServerView
from sllmcore.scheduling.launch_search import open_instance
from sllmcore.scheduling.startup_time import wait_decision
from sllmcore.types import CACHE_TIERS, Checkpoint, LoadEstimate, Placement, Request


class LocalityScheduler:
    """A ready instance, else the soonest of the servers that hold the model in its nearest tier.

    Args:
        max_candidates: How many servers a decision may look at.
    """

    def __init__(self, estimator: LoadingTimeEstimator, max_candidates: int = 8) -> None:
        self._estimator = estimator
        self._max_candidates = max_candidates

    def decide(self, request: Request, cluster: ClusterView, now_s: float) -> Decision:
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
        assert gpus is not None, f"{found[0].id} was seen to have {checkpoint.num_gpus} GPUs"
        return Launch(Placement(found[0].id, gpus, found[1]))

    def _nearest(self, checkpoint: Checkpoint, cluster: ClusterView) -> Iterator[ServerView]:
        """Holders in the nearest tier that has any; all servers with room if none has."""
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
