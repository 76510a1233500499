"""The ServerlessLLM policy (OSDI'24, section 6): least expected startup time, with live migration.

For each server the scheduler compares a launch on available GPUs with a launch after migrations
that free GPUs, by the estimates of loading and migration times. If neither is possible, the request
waits.
"""

from sllmcore.decisions import Decision, MigrateThenLaunch
from sllmcore.protocols import ClusterView
from sllmcore.scheduling.reclaim_search import ReclaimPlan
from sllmcore.scheduling.startup_time import StartupTimeSearch
from sllmcore.types import Request


class ServerlessLLMScheduler:
    """Chooses a ready instance, a launch, or migrations and a launch: whichever serves soonest."""

    def __init__(self, search: StartupTimeSearch) -> None:
        self._search = search

    def decide(self, request: Request, cluster: ClusterView, now_s: float) -> Decision:
        """Return `Start`, `Launch`, `MigrateThenLaunch`, or how to wait."""
        option = self._search.best(request, cluster, now_s)
        if isinstance(option, ReclaimPlan):
            return MigrateThenLaunch(option.placement, option.plans)
        return option
