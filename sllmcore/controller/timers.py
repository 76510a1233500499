"""When the controller wants to be woken: for start deadlines, the end of keep-alives, inferences
that may be moved again, and plans."""

from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from math import inf

from sllmcore.cluster.instance import Instance
from sllmcore.cluster.request_state import RequestState
from sllmcore.cluster.state import ClusterState
from sllmcore.controller.heap_pruning import prune_heap

# What an alarm was set for, asked by id and `set_for_s`. Values, so that a controller can be saved.


@dataclass(frozen=True, slots=True)
class _DeadlineValid:
    """A request is to start by then."""

    cluster: ClusterState

    def __call__(self, request_id: str, deadline_at_s: float) -> bool:
        request_state = self.cluster.request_states.get(request_id)
        return request_state is not None and request_state.deadline_at_s == deadline_at_s


@dataclass(frozen=True, slots=True)
class _BackoffValid:
    """An inference is not to be moved before."""

    cluster: ClusterState

    def __call__(self, request_id: str, until_s: float) -> bool:
        request_state = self.cluster.request_states.get(request_id)
        return request_state is not None and request_state.backoff_until_s == until_s


@dataclass(frozen=True, slots=True)
class _KeepAliveValid:
    """An instance has been idle since."""

    cluster: ClusterState

    def __call__(self, instance_id: str, since_s: float) -> bool:
        instance = self.cluster.instances.get(instance_id)
        return instance is not None and instance.idle_since_s == since_s


class _Alarms:
    """Alarms of one kind, in a heap of (at_s, number, id, set_for_s).

    An alarm that is no longer valid is dropped when it reaches the top of the heap, or when many
    alarms are invalid.
    """

    def __init__(self, is_valid: _DeadlineValid | _BackoffValid | _KeepAliveValid) -> None:
        self._heap: list[tuple[float, int, str, float]] = []
        self._is_valid = is_valid

    def add(self, entry: tuple[float, int, str, float], num_valid: int) -> None:
        """At most `num_valid` entries have a cause."""
        heappush(self._heap, entry)
        prune_heap(self._heap, num_valid, self._entry_is_valid)

    def earliest_s(self) -> float:
        """The earliest, `inf` if there is none."""
        while self._heap and not self._entry_is_valid(self._heap[0]):
            heappop(self._heap)
        return self._heap[0][0] if self._heap else inf

    def due(self, now_s: float) -> Iterator[str]:
        """Take out the ids of those whose instant has come."""
        while self._heap and self._heap[0][0] <= now_s:
            entry = heappop(self._heap)
            if self._entry_is_valid(entry):
                yield entry[2]

    def _entry_is_valid(self, entry: tuple[float, int, str, float]) -> bool:
        return self._is_valid(entry[2], entry[3])


class Timers:
    """The instants at which something is due."""

    def __init__(self, cluster: ClusterState) -> None:
        self._cluster = cluster
        self._deadlines = _Alarms(_DeadlineValid(cluster))
        self._expiries = _Alarms(_KeepAliveValid(cluster))
        self._backoffs = _Alarms(_BackoffValid(cluster))
        self._num_set = 0
        self._plan_at_s: float | None = None
        self.wakeup_not_before_s: float = inf  # nothing is due earlier than this

    def set_deadline(self, request_state: RequestState, at_s: float) -> None:
        request_state.deadline_at_s = at_s
        self._set(
            self._deadlines, at_s, request_state.request.id, at_s, len(self._cluster.request_states)
        )

    def set_expiry(self, instance: Instance, idle_since_s: float, keep_alive_s: float) -> None:
        at_s, num_instances = idle_since_s + keep_alive_s, len(self._cluster.instances)
        self._set(self._expiries, at_s, instance.id, idle_since_s, num_instances)

    def set_backoff(self, request_state: RequestState, at_s: float) -> None:
        """The inference is not to be moved before."""
        request_state.backoff_until_s = at_s
        self._set(
            self._backoffs, at_s, request_state.request.id, at_s, len(self._cluster.request_states)
        )

    def _set(
        self, alarms: _Alarms, at_s: float, subject_id: str, set_for_s: float, num_valid: int
    ) -> None:
        self._num_set += 1
        alarms.add((at_s, self._num_set, subject_id, set_for_s), num_valid)
        self.wakeup_not_before_s = min(self.wakeup_not_before_s, at_s)

    def set_plan_time(self, at_s: float | None) -> None:
        """The next plan of what to launch ahead of demand is due then; None: none is."""
        self._plan_at_s = at_s
        if at_s is not None:
            self.wakeup_not_before_s = min(self.wakeup_not_before_s, at_s)

    def plan_due(self, now_s: float) -> bool:
        return self._plan_at_s is not None and self._plan_at_s <= now_s

    @property
    def next_wakeup_s(self) -> float | None:
        """The earliest instant at which something is still due."""
        plan_s = inf if self._plan_at_s is None else self._plan_at_s
        alarms = (self._deadlines, self._expiries, self._backoffs)
        self.wakeup_not_before_s = min(plan_s, *(each.earliest_s() for each in alarms))
        return None if self.wakeup_not_before_s == inf else self.wakeup_not_before_s

    def due_requests(self, now_s: float) -> Iterator[str]:
        """Requests that should have started by now."""
        return self._deadlines.due(now_s)

    def due_instances(self, now_s: float) -> Iterator[Instance]:
        """Instances that have been idle for as long as they may."""
        return (self._cluster.instances[each] for each in self._expiries.due(now_s))

    def due_backoffs(self, now_s: float) -> Iterator[RequestState]:
        """Inferences that may be moved again."""
        return (self._cluster.request_states[each] for each in self._backoffs.due(now_s))
