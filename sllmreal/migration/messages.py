"""What the source and the destination of a move say to each other."""

from dataclasses import dataclass

import msgspec


@dataclass(frozen=True, slots=True)
class Position:
    """How far a workload is: entries of its log, and units of the state that follows from it."""

    log: int
    state: int


class _Message(msgspec.Struct, frozen=True, tag=True, array_like=True, forbid_unknown_fields=True):
    """A message is an array: its name, then its fields."""


class LogDelta(_Message, frozen=True):
    """Entries [first, upto) of the log."""

    first: int
    upto: int
    payload: memoryview


class StateDelta(_Message, frozen=True):
    """What takes a state from `begin` to `end`, in parts that the workload defines."""

    begin: int
    end: int
    parts: tuple[memoryview, ...]

    @property
    def num_bytes(self) -> int:
        return sum(part.nbytes for part in self.parts)


class Final(_Message, frozen=True):
    """The source holds: this is the position to release at."""

    log: int
    state: int


class Ack(_Message, frozen=True):
    """What the destination has: of the log, of copied state, and how much needs no more work."""

    log: int
    state: int
    ready: int


class Alive(_Message, frozen=True):
    """Nothing but that this end is there. It stays in the link."""


class RejectMigration(_Message, frozen=True):
    """The destination gives the move up."""

    reason: str


Delta = LogDelta | StateDelta
ToDestination = LogDelta | StateDelta | Final
ToSource = Ack | RejectMigration
