"""The timers of a controller: start deadlines, ends of keep-alives and back-offs, and plans."""

from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from math import inf

from sllmcore.cluster.instance import Instance
from sllmcore.cluster.request_state import RequestState
from sllmcore.cluster.state import ClusterState
from sllmcore.controller.heap_pruning import prune_heap

# Each class decides whether an alarm is still valid, from its id and the value that it was set for.
# They are dataclasses instead of lambdas, because a controller is pickled.


@dataclass(frozen=True, slots=True)
class _DeadlineValid:
    """True while a request has this deadline."""

    cluster: ClusterState

    def __call__(self, request_id: str, deadline_at_s: float) -> bool:
        request_state = self.cluster.request_states.get(request_id)
        return request_state is not None and request_state.deadline_at_s == deadline_at_s


@dataclass(frozen=True, slots=True)
class _BackoffValid:
    """True while a request has this end of its back-off."""

    cluster: ClusterState

    def __call__(self, request_id: str, until_s: float) -> bool:
        request_state = self.cluster.request_states.get(request_id)
        return request_state is not None and request_state.backoff_until_s == until_s


@dataclass(frozen=True, slots=True)
class _KeepAliveValid:
    """True while an instance has been idle since this time."""

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
        """Add an alarm; `num_valid` is an upper bound on the number of valid alarms."""
        heappush(self._heap, entry)
        prune_heap(self._heap, num_valid, self._entry_is_valid)

    def earliest_s(self) -> float:
        """Return the time of the earliest alarm, `inf` if there is none."""
        while self._heap and not self._entry_is_valid(self._heap[0]):
            heappop(self._heap)
        return self._heap[0][0] if self._heap else inf

    def due(self, now_s: float) -> Iterator[str]:
        """Remove the alarms up to `now_s` and yield their ids."""
        while self._heap and self._heap[0][0] <= now_s:
            entry = heappop(self._heap)
            if self._entry_is_valid(entry):
                yield entry[2]

    def _entry_is_valid(self, entry: tuple[float, int, str, float]) -> bool:
        return self._is_valid(entry[2], entry[3])


class Timers:
    """All alarms of a controller."""

    def __init__(self, cluster: ClusterState) -> None:
        self._cluster = cluster
        self._deadlines = _Alarms(_DeadlineValid(cluster))
        self._expiries = _Alarms(_KeepAliveValid(cluster))
        self._backoffs = _Alarms(_BackoffValid(cluster))
        self._num_set = 0
        self._plan_at_s: float | None = None
        self.wakeup_not_before_s: float = inf  # lower bound of `next_wakeup_s`

    def set_deadline(self, request_state: RequestState, at_s: float) -> None:
        """Let a request time out at `at_s` unless it starts before."""
        request_state.deadline_at_s = at_s
        self._set(
            alarms=self._deadlines,
            at_s=at_s,
            subject_id=request_state.request.id,
            set_for_s=at_s,
            num_valid=len(self._cluster.request_states),
        )

    def set_expiry(self, instance: Instance, idle_since_s: float, keep_alive_s: float) -> None:
        """Let the keep-alive of an idle instance end after `keep_alive_s`."""
        at_s, num_instances = idle_since_s + keep_alive_s, len(self._cluster.instances)
        self._set(
            alarms=self._expiries,
            at_s=at_s,
            subject_id=instance.id,
            set_for_s=idle_since_s,
            num_valid=num_instances,
        )

    def set_backoff(self, request_state: RequestState, at_s: float) -> None:
        """Do not migrate a request before `at_s`."""
        request_state.backoff_until_s = at_s
        self._set(
            alarms=self._backoffs,
            at_s=at_s,
            subject_id=request_state.request.id,
            set_for_s=at_s,
            num_valid=len(self._cluster.request_states),
        )

    def _set(
        self, alarms: _Alarms, at_s: float, subject_id: str, set_for_s: float, num_valid: int
    ) -> None:
        self._num_set += 1
        alarms.add((at_s, self._num_set, subject_id, set_for_s), num_valid)
        self.wakeup_not_before_s = min(self.wakeup_not_before_s, at_s)

    def set_plan_time(self, at_s: float | None) -> None:
        """Set the time of the next plan of the prewarmer; None: no plan."""
        self._plan_at_s = at_s
        if at_s is not None:
            self.wakeup_not_before_s = min(self.wakeup_not_before_s, at_s)

    def plan_due(self, now_s: float) -> bool:
        """Return True if the time of the next plan has come."""
        return self._plan_at_s is not None and self._plan_at_s <= now_s

    @property
    def next_wakeup_s(self) -> float | None:
        """The time of the earliest valid alarm; None if there is none."""
        plan_s = inf if self._plan_at_s is None else self._plan_at_s
        alarms = (self._deadlines, self._expiries, self._backoffs)
        self.wakeup_not_before_s = min(plan_s, *(each.earliest_s() for each in alarms))
        return None if self.wakeup_not_before_s == inf else self.wakeup_not_before_s

    def due_requests(self, now_s: float) -> Iterator[str]:
        """Yield the ids of the requests that missed their deadline."""
        return self._deadlines.due(now_s)

    def due_instances(self, now_s: float) -> Iterator[Instance]:
        """Yield the instances with a keep-alive that has ended."""
        return (self._cluster.instances[each] for each in self._expiries.due(now_s))

    def due_backoffs(self, now_s: float) -> Iterator[RequestState]:
        """Yield the requests with a back-off that has ended."""
        return (self._cluster.request_states[each] for each in self._backoffs.due(now_s))
