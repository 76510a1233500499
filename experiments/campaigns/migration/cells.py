"""Cells of the simulated campaign: each combination of a step of a migration and a fault there."""

from dataclasses import dataclass
from enum import StrEnum

from sllmreal.migration.messages import Ack, Final, LogDelta, StateDelta
from sllmreal.streams import messages as wire


class Role(StrEnum):
    """The process that a fault hits."""

    SOURCE = "source"
    DESTINATION = "destination"
    OWNER = "owner"


class MigrationStep(StrEnum):
    """A step of a migration: its message is sent for the first time."""

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
    """A fault of a process, of a message, or an action of client or controller."""

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
class FaultCell:
    """A fault at a step. `role` is None for faults of the message and actions of the controller."""

    step: MigrationStep
    fault: Fault
    role: Role | None = None


ALL_CELLS = tuple(
    [FaultCell(step, fault, role) for step in MigrationStep for fault in OF_ROLES for role in Role]
    + [FaultCell(step, fault) for step in MigrationStep for fault in OF_MESSAGES + OF_CONTROL]
)


@dataclass(slots=True)
class StepDetector:
    """Finds the steps of a run's first migration in the messages that are sent."""

    committed: bool = False
    num_deltas: int = 0

    def step_of(self, message: object) -> MigrationStep | None:
        """Return the step that the sending of this message is, if any."""
        match message:
            case LogDelta() | StateDelta():
                self.num_deltas += 1
                return MigrationStep.DELTA if self.num_deltas == 1 else MigrationStep.MORE
            case wire.Tokens(finish=finish) if finish is not None:
                return MigrationStep.FINISH
            case wire.Tokens():
                return MigrationStep.RESUMED if self.committed else None
            case wire.CommitStream():
                self.committed = True
                return MigrationStep.COMMIT
            case wire.StopStream():
                return MigrationStep.RELEASE if self.committed else None
        return _STEP_OF_TYPE.get(type(message))


_STEP_OF_TYPE: dict[type, MigrationStep] = {
    wire.StartStream: MigrationStep.START,
    wire.PrepareStream: MigrationStep.PREPARE,
    wire.StreamPrepared: MigrationStep.PREPARED,
    wire.MigrateStream: MigrationStep.MIGRATE,
    Ack: MigrationStep.ACK,
    Final: MigrationStep.FINAL,
    wire.StreamNotMoved: MigrationStep.GIVE_UP,
    wire.StreamReady: MigrationStep.READY,
}
