"""The Shepherd* policy: ServerlessLLM's estimates, with preemption instead of migration.

SHEPHERD (NSDI'23) preempts running requests to free GPUs. In ServerlessLLM's evaluation it has the
same loader and estimator, so that both systems choose the same GPUs. A victim's request is stopped,
loses its output tokens and restarts from its beginning elsewhere.
"""

from sllmcore.decisions import Decision, PreemptThenLaunch
from sllmcore.protocols import ClusterView
from sllmcore.scheduling.reclaim_search import ReclaimPlan
from sllmcore.scheduling.startup_time import StartupTimeSearch
from sllmcore.types import Request


class ShepherdScheduler:
    """Decides like `ServerlessLLMScheduler`, but preempts the victims instead of migrating them."""

    def __init__(self, search: StartupTimeSearch) -> None:
        self._search = search

    def decide(self, request: Request, cluster: ClusterView, now_s: float) -> Decision:
        """Return `Start`, `Launch`, `PreemptThenLaunch`, or how to wait."""
        option = self._search.best(request, cluster, now_s)
        if isinstance(option, ReclaimPlan):
            victim_ids = tuple(plan.victim_id for plan in option.plans)
            return PreemptThenLaunch(option.placement, victim_ids)
        return option
