"""The serverless policy: a random server with available GPUs.

FaaS platforms place functions like this, without regard to locality. Baseline of that name in
ServerlessLLM's evaluation (section 7.3).
"""

from sllmcore.decisions import Decision, Launch, Start
from sllmcore.protocols import ClusterView, LoadingTimeEstimator, RandomSource
from sllmcore.scheduling.launch_search import open_instance
from sllmcore.scheduling.startup_time import wait_decision
from sllmcore.types import Placement, Request


class ServerlessScheduler:
    """Chooses an open instance, else a random server with enough available GPUs.

    Args:
        max_candidates: Number of servers tried if the model does not fit each of them.
    """

    def __init__(
        self, estimator: LoadingTimeEstimator, rng: RandomSource, max_candidates: int = 8
    ) -> None:
        self._estimator = estimator
        self._rng = rng
        self._max_candidates = max_candidates

    def decide(self, request: Request, cluster: ClusterView, now_s: float) -> Decision:
        """Return `Start`, `Launch`, or how to wait."""
        joined = open_instance(cluster.open_instances(request.model))
        if joined is not None:
            return Start(joined.id)
        checkpoint = cluster.checkpoints[request.model]
        num_servers = cluster.num_servers_with(checkpoint.num_gpus)
        if not num_servers:
            return wait_decision(cluster, checkpoint.num_gpus)
        first = self._rng.randrange(num_servers)
        for i in range(min(num_servers, self._max_candidates)):
            server = cluster.server_with(checkpoint.num_gpus, (first + i) % num_servers)
            gpus = server.pick_gpus(checkpoint.num_gpus)
            if gpus is not None and server.could_hold(checkpoint):
                load = self._estimator.estimate(checkpoint, server, now_s)
                return Launch(Placement(server.id, gpus, load))
        return wait_decision(cluster, checkpoint.num_gpus)
