"""All the ways one request could start, weighed by expected startup time."""

from sllmcore.decisions import Launch, Start, WaitForGPUs, WaitForServers
from sllmcore.protocols import ClusterView
from sllmcore.scheduling.launch_search import LaunchSearch, ready_instance, soonest_instance
from sllmcore.scheduling.reclaim_search import ReclaimPlan, ReclaimSearch
from sllmcore.types import DRAM, Placement, Request


def wait_decision(cluster: ClusterView, num_gpus: int) -> WaitForGPUs | WaitForServers:
    """How to wait when no server can take a model of so many GPUs."""
    if cluster.num_servers_with(num_gpus):
        return WaitForServers(())  # GPUs there are, but not of a size that this model fits
    return WaitForGPUs()


def _loads_at_once(placement: Placement | None) -> bool:
    """Whether the load would begin now and from DRAM: no room that is made can be sooner."""
    if placement is None:
        return False
    return placement.load.source is DRAM and placement.load.queue_s <= 0


class StartupTimeSearch:
    """What ServerlessLLM and Shepherd* have in common: both find the same GPUs.

    Args:
        launches: Finds the soonest launch.
        reclaims: Finds the soonest start with others making room; None: nobody is moved.
    """

    def __init__(self, launches: LaunchSearch, reclaims: ReclaimSearch | None) -> None:
        self._launches = launches
        self._reclaims = reclaims

    def best(
        self, request: Request, cluster: ClusterView, now_s: float
    ) -> Start | Launch | ReclaimPlan | WaitForGPUs | WaitForServers:
        """The option that serves the request soonest; of equals the one that moves nobody."""
        instances = cluster.open_instances(request.model)
        ready = ready_instance(instances)
        if ready is not None:
            return Start(ready.id)
        checkpoint = cluster.checkpoints[request.model]
        placement = self._launches.best(checkpoint, cluster, now_s)
        best_s = None if placement is None else placement.load.total_s
        loading = soonest_instance(instances)
        if loading is not None and (best_s is None or loading.ready_at_s - now_s <= best_s):
            return Start(loading.id)
        if self._reclaims is not None and not _loads_at_once(placement):
            reclaim = self._reclaims.best(checkpoint, cluster, now_s, below_s=best_s)
            if reclaim is not None:
                return reclaim
        if placement is not None:
            return Launch(placement)
        return wait_decision(cluster, checkpoint.num_gpus)
