"""The availability-driven policy: use the server with the most available GPUs.

It ignores the location of checkpoints. First of the four policies in figure 3 of ServerlessLLM
(OSDI'24).
"""

from sllmcore.decisions import Decision, Launch, Start
from sllmcore.protocols import ClusterView, LoadingTimeEstimator
from sllmcore.scheduling.launch_search import open_instance
from sllmcore.scheduling.startup_time import wait_decision
from sllmcore.types import Placement, Request


class AvailabilityScheduler:
    """Chooses an open instance, else the server with the most available GPUs that fits the model.

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
        for server in cluster.servers_with(checkpoint.num_gpus, self._max_candidates):
            gpus = server.pick_gpus(checkpoint.num_gpus)
            if gpus is not None and server.could_hold(checkpoint):
                load = self._estimator.estimate(checkpoint, server, now_s)
                return Launch(Placement(server.id, gpus, load))
        return wait_decision(cluster, checkpoint.num_gpus)
