"""What the controller remembers of a request from its arrival to its end."""

from enum import Enum

from sllmcore.cluster.instance import Instance
from sllmcore.cluster.move import Move
from sllmcore.types import Request


class TicketState(Enum):
    WAITING = "waiting"  # for a decision
    BOUND = "bound"  # to an instance that is not ready
    RUNNING = "running"
    MOVING = "moving"  # still running at its instance; a `Resume` is under way
    STOPPING = "stopping"  # a `Stop` is under way


# Looked up on the class, a member costs Python 3.11 as much as a call.
WAITING, BOUND, RUNNING, MOVING, STOPPING = TicketState


class Ticket:
    """Where a request stands. Only the controller writes to it."""

    __slots__ = (
        "attempt",
        "deadline_at_s",
        "instance",
        "move",
        "num_failed_moves",
        "num_load_failures",
        "num_preemptions",
        "order",
        "request",
        "requeue",
        "running_since_s",
        "state",
        "stays_until_s",
    )

    def __init__(self, request: Request, order: int) -> None:
        self.request = request
        self.order = order  # of arrival
        self.state = WAITING
        self.instance: Instance | None = None
        self.move: Move | None = None
        self.attempt = 0
        self.deadline_at_s: float | None = None  # to start by; None while it runs
        self.requeue = False  # after a stop: run again (preempted), or not (cancelled)
        self.running_since_s = 0.0
        self.num_preemptions = 0
        self.num_load_failures = 0
        self.num_failed_moves = 0  # since the last that succeeded
        self.stays_until_s = 0.0  # not to be moved before

    @property
    def can_move(self) -> bool:
        return self.state is RUNNING and self.move is None
