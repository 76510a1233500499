"""The search for the soonest start of a request: start, launch, or reclaim and launch."""

from sllmcore.decisions import Launch, Start, WaitForGPUs, WaitForServers
from sllmcore.protocols import ClusterView
from sllmcore.scheduling.launch_search import LaunchSearch, ready_instance, soonest_instance
from sllmcore.scheduling.reclaim_search import ReclaimPlan, ReclaimSearch
from sllmcore.types import DRAM, Placement, Request


def wait_decision(cluster: ClusterView, num_gpus: int) -> WaitForGPUs | WaitForServers:
    """Return how a request waits if no server can take its model of `num_gpus` GPUs."""
    if cluster.num_servers_with(num_gpus):
        return WaitForServers(())  # enough GPUs are available, but not enough memory
    return WaitForGPUs()


def _loads_at_once(placement: Placement | None) -> bool:
    """Return True if the load can begin now, from DRAM. No reclaim plan can be sooner."""
    if placement is None:
        return False
    return placement.load.source is DRAM and placement.load.queue_s <= 0


class StartupTimeSearch:
    """Finds the soonest start of a request. ServerlessLLM and Shepherd* share it.

    Args:
        launches: Finds the soonest launch on available GPUs.
        reclaims: Finds the soonest launch on reclaimed GPUs; None to reclaim no GPUs.
    """

    def __init__(self, launches: LaunchSearch, reclaims: ReclaimSearch | None) -> None:
        self._launches = launches
        self._reclaims = reclaims

    def best(
        self, request: Request, cluster: ClusterView, now_s: float
    ) -> Start | Launch | ReclaimPlan | WaitForGPUs | WaitForServers:
        """Return the option with the earliest start. Ties: the option without migrations."""
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
