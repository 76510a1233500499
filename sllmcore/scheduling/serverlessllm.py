"""ServerlessLLM (OSDI'24, section 6): least expected startup time, live migration included.

For each server the scheduler weighs starting at once against migrating others away first, by the
estimates of loading time and migration time. A request that finds no room either way waits.
"""

from sllmcore.decisions import Decision, MigrateThenLaunch
from sllmcore.protocols import ClusterView
from sllmcore.scheduling.reclaim_search import ReclaimPlan
from sllmcore.scheduling.startup_time import StartupTimeSearch
from sllmcore.types import Request


class ServerlessLLMScheduler:
    """Start on a ready instance, launch, or migrate then launch: whichever serves soonest."""

    def __init__(self, search: StartupTimeSearch) -> None:
        self._search = search

    def decide(self, request: Request, cluster: ClusterView, now_s: float) -> Decision:
        option = self._search.best(request, cluster, now_s)
        if isinstance(option, ReclaimPlan):
            return MigrateThenLaunch(option.placement, option.plans)
        return option
