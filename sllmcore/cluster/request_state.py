"""What the controller remembers of a request from its arrival to its end."""

from enum import Enum

from sllmcore.cluster.instance import Instance
from sllmcore.cluster.migration import Migration
from sllmcore.types import Request


class RequestPhase(Enum):
    """The phases of a request, from its arrival to its end."""

    WAITING = "waiting"  # for a decision
    BOUND = "bound"  # to an instance that is not ready
    RUNNING = "running"
    MIGRATING = "migrating"  # still running at its instance; a `StartMigration` is under way
    STOPPING = "stopping"  # a `StopRequest` is under way


# Looked up on the class, a member costs Python 3.11 as much as a call.
WAITING, BOUND, RUNNING, MIGRATING, STOPPING = RequestPhase


class RequestState:
    """The state of one open request. Only the controller writes to it."""

    __slots__ = (
        "arrival_index",
        "attempt",
        "backoff_until_s",
        "deadline_at_s",
        "instance",
        "migration",
        "num_failed_migrations",
        "num_load_failures",
        "num_preemptions",
        "phase",
        "request",
        "running_since_s",
        "runs_again",
    )

    def __init__(self, request: Request, arrival_index: int) -> None:
        self.request = request
        self.arrival_index = arrival_index  # orders requests by arrival
        self.phase = WAITING
        self.instance: Instance | None = None
        self.migration: Migration | None = None
        self.attempt = 0
        self.deadline_at_s: float | None = None  # to start by; None while it runs
        self.runs_again = False  # after a stop: run again (preempted), or not (cancelled)
        self.running_since_s = 0.0
        self.num_preemptions = 0
        self.num_load_failures = 0
        self.num_failed_migrations = 0  # since the last that succeeded
        self.backoff_until_s = 0.0  # not to be moved before

    @property
    def can_migrate(self) -> bool:
        return self.phase is RUNNING and self.migration is None
