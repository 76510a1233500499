"""A policy that migrates whenever it can: it prefers a reclaim plan to a launch on free GPUs.

    sllm serve --policy experiments.campaigns.cluster.migrating_policy:migrating

One request in four prefers a reclaim plan to a ready instance too.
"""

from zlib import crc32

from sllmcore.decisions import Decision, Launch, MigrateThenLaunch, Start
from sllmcore.policies import PolicyParts
from sllmcore.protocols import ClusterView
from sllmcore.scheduling.launch_search import LaunchSearch
from sllmcore.scheduling.reclaim_search import ReclaimPlan, ReclaimSearch, rested
from sllmcore.scheduling.startup_time import StartupTimeSearch
from sllmcore.types import Request

REFERENCE = "experiments.campaigns.cluster.migrating_policy:migrating"


class MigratingScheduler:
    """The soonest start of ServerlessLLM, but reclaimed GPUs before free ones."""

    def __init__(self, soonest: StartupTimeSearch, reclaims: ReclaimSearch) -> None:
        self._soonest = soonest
        self._reclaims = reclaims

    def decide(self, request: Request, cluster: ClusterView, now_s: float) -> Decision:
        """Return `Start`, `Launch`, `MigrateThenLaunch`, or how to wait."""
        option = self._soonest.best(request, cluster, now_s)
        may_reclaim = isinstance(option, Launch) or crc32(request.id.encode()) % 4 == 0
        if may_reclaim and isinstance(option, Launch | Start):
            checkpoint = cluster.checkpoints[request.model]
            option = self._reclaims.best(checkpoint, cluster, now_s, None) or option
        if isinstance(option, ReclaimPlan):
            return MigrateThenLaunch(option.placement, option.plans)
        return option


def migrating(parts: PolicyParts) -> MigratingScheduler:
    """Make the scheduler."""
    launches = LaunchSearch(parts.estimator, parts.max_candidates)
    reclaims = ReclaimSearch(launches, parts.predictor, may_migrate=rested)
    return MigratingScheduler(StartupTimeSearch(launches, reclaims), reclaims)
