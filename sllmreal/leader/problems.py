"""Recent problems of a cluster, for `sllm status`: failures of loads, instances and requests."""

from collections import deque
from collections.abc import Iterable

from sllmcore.commands import Command, TimeOutRequest
from sllmcore.events import (
    Event,
    InferenceFailed,
    InferenceStopped,
    InstanceLost,
    LoadFailed,
    ServerLost,
)
from sllmcore.protocols import ClusterView
from sllmreal.control.messages import ProblemStatus

_NUM_KEPT = 20


class RecentProblems:
    """The last problems, oldest first. They follow from the log, so a new leader has them too."""

    def __init__(self) -> None:
        self._problems: deque[ProblemStatus] = deque(maxlen=_NUM_KEPT)

    def all(self) -> tuple[ProblemStatus, ...]:
        """Return the problems, oldest first."""
        return tuple(self._problems)

    def note_event(self, event: Event, now_s: float, cluster: ClusterView) -> None:
        """Note an event that the controller is about to handle."""
        match event:
            case LoadFailed(instance_id, reason):
                self._add(now_s, _instance(instance_id, cluster), f"load failed: {reason}")
            case InstanceLost(instance_id, reason):
                self._add(now_s, _instance(instance_id, cluster), f"instance lost: {reason}")
            case ServerLost(server_id):
                self._add(now_s, f"server {server_id}", "its worker is lost")
            case InferenceFailed(request_id, _, reason):
                self._add(now_s, f"request {request_id}", f"failed: {reason}")
            case InferenceStopped(request_id, instance_id):
                state = cluster.request_states.get(request_id)
                if state is not None and state.can_migrate:  # nothing has stopped it
                    reason = f"instance {instance_id} sent nothing for too long; it is restarted"
                    self._add(now_s, f"request {request_id}", reason)
            case _:
                pass

    def note_commands(self, commands: Iterable[Command], now_s: float) -> None:
        """Note the commands that end requests without an answer."""
        for command in commands:
            match command:
                case TimeOutRequest(_, request_id):
                    self._add(now_s, f"request {request_id}", "not started in time")
                case _:
                    pass

    def _add(self, now_s: float, subject: str, reason: str) -> None:
        self._problems.append(ProblemStatus(now_s, subject, reason))


def _instance(instance_id: str, cluster: ClusterView) -> str:
    instance = cluster.instances.get(instance_id)
    return instance_id if instance is None else f"{instance_id} ({instance.model})"
