"""When the controller wants to be woken: for start deadlines, the end of keep-alives, and plans."""

from collections.abc import Iterator
from heapq import heappop, heappush
from math import inf

from sllmcore.cluster.instance import Instance
from sllmcore.cluster.state import ClusterState
from sllmcore.cluster.ticket import Ticket
from sllmcore.controller.thinning import thinned


class Timers:
    """Two heaps of instants, and that of the next plan. An entry of a heap whose cause has gone is
    dropped when it surfaces, or when there are many such."""

    def __init__(self, cluster: ClusterState) -> None:
        self._cluster = cluster
        self._deadlines: list[tuple[float, int, str]] = []  # (at_s, order, request id)
        self._expiries: list[tuple[float, int, str, float]] = []  # (.., instance id, idle since)
        self._num_set = 0
        self._plan_at_s: float | None = None
        self.not_before_s: float = inf  # nothing is due earlier than this

    def set_deadline(self, ticket: Ticket, at_s: float) -> None:
        self._num_set += 1
        ticket.deadline_at_s = at_s
        heappush(self._deadlines, (at_s, self._num_set, ticket.request.id))
        thinned(self._deadlines, len(self._cluster.tickets), self._deadline_holds)
        self.not_before_s = min(self.not_before_s, at_s)

    def set_expiry(self, instance: Instance, idle_since_s: float, keep_alive_s: float) -> None:
        self._num_set += 1
        at_s = idle_since_s + keep_alive_s
        heappush(self._expiries, (at_s, self._num_set, instance.id, idle_since_s))
        thinned(self._expiries, len(self._cluster.instances), self._expiry_holds)
        self.not_before_s = min(self.not_before_s, at_s)

    def set_plan(self, at_s: float | None) -> None:
        """The next plan of what to launch ahead of demand is due then; None: none is."""
        self._plan_at_s = at_s
        if at_s is not None:
            self.not_before_s = min(self.not_before_s, at_s)

    def plan_due(self, now_s: float) -> bool:
        return self._plan_at_s is not None and self._plan_at_s <= now_s

    def next_s(self) -> float | None:
        """The earliest instant at which something is still due."""
        self._drop_gone()
        heads = [heap[0][0] for heap in (self._deadlines, self._expiries) if heap]
        if self._plan_at_s is not None:
            heads.append(self._plan_at_s)
        self.not_before_s = min(heads, default=inf)
        return min(heads, default=None)

    def due_requests(self, now_s: float) -> Iterator[str]:
        """Requests that should have started by now."""
        while self._deadlines and self._deadlines[0][0] <= now_s:
            entry = heappop(self._deadlines)
            if self._deadline_holds(entry):
                yield entry[2]

    def due_instances(self, now_s: float) -> Iterator[Instance]:
        """Instances that have been idle for as long as they may."""
        while self._expiries and self._expiries[0][0] <= now_s:
            entry = heappop(self._expiries)
            if self._expiry_holds(entry):
                yield self._cluster.instances[entry[2]]

    def _drop_gone(self) -> None:
        deadlines, expiries = self._deadlines, self._expiries
        while deadlines and not self._deadline_holds(deadlines[0]):
            heappop(deadlines)
        while expiries and not self._expiry_holds(expiries[0]):
            heappop(expiries)

    def _deadline_holds(self, entry: tuple[float, int, str]) -> bool:
        at_s, _, request_id = entry
        ticket = self._cluster.tickets.get(request_id)
        return ticket is not None and ticket.deadline_at_s == at_s

    def _expiry_holds(self, entry: tuple[float, int, str, float]) -> bool:
        _, _, instance_id, since_s = entry
        instance = self._cluster.instances.get(instance_id)
        return instance is not None and instance.idle_since_s == since_s
