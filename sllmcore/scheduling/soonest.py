"""The soonest policy: least expected startup time, without migration or preemption.

It places requests under WarmServe, which prewarms instances.
"""

from sllmcore.decisions import Decision
from sllmcore.protocols import ClusterView
from sllmcore.scheduling.reclaim_search import ReclaimPlan
from sllmcore.scheduling.startup_time import StartupTimeSearch
from sllmcore.types import Request


class SoonestScheduler:
    """Chooses a ready instance, a loading one, or a launch: whichever serves soonest.

    Args:
        search: A search without a `ReclaimSearch`.
    """

    def __init__(self, search: StartupTimeSearch) -> None:
        self._search = search

    def decide(self, request: Request, cluster: ClusterView, now_s: float) -> Decision:
        """Return `Start`, `Launch`, or how to wait."""
        option = self._search.best(request, cluster, now_s)
        assert not isinstance(option, ReclaimPlan), "the search must not reclaim GPUs"
        return option
