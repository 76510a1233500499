"""Availability-driven: the server with the most available GPUs, wherever the checkpoint lies.

The first of the four policies that figure 3 of ServerlessLLM (OSDI'24) compares.
"""

from sllmcore.decisions import Decision, Launch, Start
from sllmcore.protocols import ClusterView, LoadingTimeEstimator
from sllmcore.scheduling.launch_search import open_instance
from sllmcore.scheduling.startup_time import wait_decision
from sllmcore.types import Placement, Request


class AvailabilityScheduler:
    """A ready instance if there is one, else the emptiest server that the model fits.

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
        for server in cluster.servers_with(checkpoint.num_gpus, self._max_candidates):
            gpus = server.pick_gpus(checkpoint.num_gpus)
            if gpus is not None and server.could_hold(checkpoint):
                load = self._estimator.estimate(checkpoint, server, now_s)
                return Launch(Placement(server.id, gpus, load))
        return wait_decision(cluster, checkpoint.num_gpus)
