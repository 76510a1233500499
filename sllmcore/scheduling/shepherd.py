"""Shepherd*: ServerlessLLM's locality and estimates, but preemption in place of migration.

SHEPHERD (NSDI'23) preempts what runs to make room. In ServerlessLLM's evaluation it is given the
same loader and estimator, so that both systems pick the same GPUs; the victim's inference is
stopped, loses its tokens, and runs again from its beginning elsewhere.
"""

from sllmcore.decisions import Decision, PreemptThenLaunch
from sllmcore.protocols import ClusterView
from sllmcore.scheduling.reclaim_search import ReclaimPlan
from sllmcore.scheduling.startup_time import StartupTimeSearch
from sllmcore.types import Request


class ShepherdScheduler:
    """As `ServerlessLLMScheduler`, with victims stopped instead of moved."""

    def __init__(self, search: StartupTimeSearch) -> None:
        self._search = search

    def decide(self, request: Request, cluster: ClusterView, now_s: float) -> Decision:
        option = self._search.best(request, cluster, now_s)
        if isinstance(option, ReclaimPlan):
            victim_ids = tuple(plan.victim_id for plan in option.plans)
            return PreemptThenLaunch(option.placement, victim_ids)
        return option
