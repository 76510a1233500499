"""The state of an open request, from its arrival to its end.

Transitions of `RequestPhase`:

    from       to         event or command
    -          WAITING    RequestArrived
    WAITING    BOUND      it gets a slot of an instance that is not ready
    WAITING    RUNNING    it gets a slot of a ready instance: StartRequest
    BOUND      RUNNING    LoadFinished: StartRequest
    BOUND      WAITING    LoadFailed, InstanceLost or ServerLost; the instance was RESERVED and was
                          removed
    RUNNING    MIGRATING  the destination is ready: StartMigration
    RUNNING    STOPPING   preemption (`runs_again`) or RequestCancelled: StopRequest
    RUNNING    WAITING    InstanceLost or ServerLost
    MIGRATING  RUNNING    MigrationFinished (at the destination); MigrationFailed or the loss of the
                          destination (at the source)
    MIGRATING  STOPPING   RequestCancelled: AbortMigration, StopRequest
    MIGRATING  WAITING    InstanceLost or ServerLost of the source: AbortMigration
    STOPPING   STOPPING   MigrationFinished: StopRequest, now to the destination
    STOPPING   WAITING    InferenceStopped, InstanceLost or ServerLost, if `runs_again`

A request ends
- in WAITING or BOUND on RequestCancelled, and with a TimeOutRequest or RejectRequest;
- in RUNNING, MIGRATING or STOPPING on InferenceFinished or InferenceFailed (RejectRequest);
- in STOPPING on InferenceStopped, InstanceLost or ServerLost, unless `runs_again`;
- instead of becoming WAITING again, if its model was deleted: RejectRequest.
"""

from enum import Enum

from sllmcore.cluster.instance import Instance
from sllmcore.cluster.migration import Migration
from sllmcore.types import Request


class RequestPhase(Enum):
    """The phases of a request; see the module."""

    WAITING = "waiting"  # for a decision
    BOUND = "bound"  # to an instance that is not ready
    RUNNING = "running"
    MIGRATING = "migrating"  # still running at its instance; a `StartMigration` is under way
    STOPPING = "stopping"  # a `StopRequest` is under way


# In Python 3.11, `RequestPhase.RUNNING` costs as much as a function call; these names do not.
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
        self.arrival_index = arrival_index  # number of the request in order of arrival
        self.phase = WAITING
        self.instance: Instance | None = None
        self.migration: Migration | None = None
        self.attempt = 0  # number of `StartRequest` commands so far
        self.deadline_at_s: float | None = None  # time by which it must start; None while it runs
        self.runs_again = False  # after its stop it waits again (preempted) or ends (cancelled)
        self.running_since_s = 0.0
        self.num_preemptions = 0
        self.num_load_failures = 0
        self.num_failed_migrations = 0  # since the last success
        self.backoff_until_s = 0.0  # it is not migrated before this time

    @property
    def can_migrate(self) -> bool:
        """True if the request runs and no migration of it is planned or in progress."""
        return self.phase is RUNNING and self.migration is None
