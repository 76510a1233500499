"""Where in a migration something may go wrong, and what: the cells that a campaign has to visit."""

from dataclasses import dataclass
from enum import StrEnum

from sllmreal.migration.messages import Ack, Final, LogDelta, StateDelta
from sllmreal.streams import messages as wire

Message = object


class Role(StrEnum):
    SOURCE = "source"
    DESTINATION = "destination"
    OWNER = "owner"


class Step(StrEnum):
    """A step is the sending of its message, for the first time."""

    START = "start"
    PREPARE = "prepare"
    PREPARED = "prepared"
    MIGRATE = "migrate"
    DELTA = "first delta"
    ACK = "first ack"
    MORE = "later delta"
    FINAL = "final"
    GIVE_UP = "give up"
    READY = "ready"
    COMMIT = "commit"
    RELEASE = "release source"
    RESUMED = "first token"
    FINISH = "finish"


class Fault(StrEnum):
    CRASH_BEFORE = "crash before"
    CRASH_AFTER = "crash after"
    STALL = "stall 5 s"
    DROP = "drop"
    DUPLICATE = "duplicate"
    REORDER = "reorder"
    LATE = "late"
    CANCEL = "client leaves"
    ABORT = "called off"


OF_ROLES = (Fault.CRASH_BEFORE, Fault.CRASH_AFTER, Fault.STALL)
OF_MESSAGES = (Fault.DROP, Fault.DUPLICATE, Fault.REORDER, Fault.LATE)
OF_CONTROL = (Fault.CANCEL, Fault.ABORT)


@dataclass(frozen=True, slots=True)
class Cell:
    """`role` is None for what happens to the message, or comes from the controller."""

    step: Step
    fault: Fault
    role: Role | None = None


ALL_CELLS = tuple(
    [Cell(step, fault, role) for step in Step for fault in OF_ROLES for role in Role]
    + [Cell(step, fault) for step in Step for fault in OF_MESSAGES + OF_CONTROL]
)


@dataclass(slots=True)
class Watch:
    """Recognises the steps of one world's first migration by the messages sent."""

    committed: bool = False
    num_deltas: int = 0

    def step_of(self, message: Message) -> Step | None:
        match message:
            case LogDelta() | StateDelta():
                self.num_deltas += 1
                return Step.DELTA if self.num_deltas == 1 else Step.MORE
            case wire.Tokens(finish=finish) if finish is not None:
                return Step.FINISH
            case wire.Tokens():
                return Step.RESUMED if self.committed else None
            case wire.CommitStream():
                self.committed = True
                return Step.COMMIT
            case wire.StopStream():
                return Step.RELEASE if self.committed else None
        return _PLAIN.get(type(message))


_PLAIN: dict[type, Step] = {
    wire.StartStream: Step.START,
    wire.PrepareStream: Step.PREPARE,
    wire.StreamPrepared: Step.PREPARED,
    wire.MigrateStream: Step.MIGRATE,
    Ack: Step.ACK,
    Final: Step.FINAL,
    wire.StreamNotMoved: Step.GIVE_UP,
    wire.StreamReady: Step.READY,
}
