"""Soonest: least expected startup time among what is free or idle; nobody is moved or stopped.

How requests are placed under WarmServe, where it matters that the instance is there already.
"""

from sllmcore.decisions import Decision
from sllmcore.protocols import ClusterView
from sllmcore.scheduling.reclaim_search import ReclaimPlan
from sllmcore.scheduling.startup_time import StartupTimeSearch
from sllmcore.types import Request


class SoonestScheduler:
    """A ready instance, one that is loading, or a launch: whichever serves soonest.

    Args:
        search: Must not look for room that others would have to make.
    """

    def __init__(self, search: StartupTimeSearch) -> None:
        self._search = search

    def decide(self, request: Request, cluster: ClusterView, now_s: float) -> Decision:
        option = self._search.best(request, cluster, now_s)
        assert not isinstance(option, ReclaimPlan), (
            "the search was to leave the others where they are"
        )
        return option
