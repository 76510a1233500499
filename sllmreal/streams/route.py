"""A route, and a move of it, as their owner sees them."""

from dataclasses import dataclass, field
from enum import Enum, auto

from sllmreal.streams.messages import Epoch, StreamReady
from sllmreal.streams.owner_io import MigrationOrder, OwnerOptions


@dataclass(slots=True)
class Route:
    """Where the tokens come from."""

    instance_id: str
    epoch: Epoch
    poll_at_s: float
    gap_asked_at_s: float = float("-inf")


class MigrationStage(Enum):
    PREPARING = auto()  # the destination has not taken a slot yet
    MOVING = auto()  # source and destination are at it
    COMMITTED = auto()  # the route is the destination; its first token has not come


@dataclass(slots=True)
class StreamMigration:
    """From the order to the destination's first token, which must not take until `deadline_s`."""

    order: MigrationOrder
    epoch: Epoch
    num_context: int  # when it began, on which it depends how long it takes
    began_at_s: float
    deadline_s: float
    options: OwnerOptions
    stage: MigrationStage = MigrationStage.PREPARING
    ready: StreamReady | None = None
    ready_at_s: float = 0.0
    _repeat_at_s: float = field(init=False)

    def __post_init__(self) -> None:
        self._repeat_at_s = self.began_at_s + self.options.resend_s

    @property
    def committed(self) -> bool:
        return self.stage is MigrationStage.COMMITTED

    @property
    def next_wakeup_s(self) -> float | None:
        return None if self.committed else min(self._repeat_at_s, self.deadline_s)

    def enter(self, stage: MigrationStage, now_s: float) -> None:
        self.stage = stage
        self._repeat_at_s = now_s + self.options.resend_s

    def repeat_due(self, now_s: float) -> bool:
        """Whether to say again what has not been answered; if so, the next time is set."""
        if now_s < self._repeat_at_s:
            return False
        self._repeat_at_s = now_s + self.options.resend_s
        return True
