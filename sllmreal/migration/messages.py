"""The messages between the source and the destination of a migration."""

from dataclasses import dataclass

import msgspec


@dataclass(frozen=True, slots=True)
class Position:
    """The progress of a workload: entries of its log, units of the state that follows from it."""

    log: int
    state: int


class _Message(msgspec.Struct, frozen=True, tag=True, array_like=True, forbid_unknown_fields=True):
    """A message is an array: its name, then its fields."""


class LogDelta(_Message, frozen=True):
    """The entries [first, upto) of the log."""

    first: int
    upto: int
    payload: memoryview


class StateDelta(_Message, frozen=True):
    """The change of a state from `begin` to `end`, in parts that the workload defines."""

    begin: int
    end: int
    parts: tuple[memoryview, ...]

    @property
    def num_bytes(self) -> int:
        """Bytes of all parts."""
        return sum(part.nbytes for part in self.parts)


class Final(_Message, frozen=True):
    """The position at which the source holds, and the destination is to release."""

    log: int
    state: int


class Ack(_Message, frozen=True):
    """The destination's progress: log entries, copied units of state, units that are ready.

    Units are ready when they need no more work, whether copied or computed.
    """

    log: int
    state: int
    ready: int


class Alive(_Message, frozen=True):
    """A sign of life between the ends of a link. It is not passed on."""


class RejectMigration(_Message, frozen=True):
    """The destination cannot take the workload."""

    reason: str


Delta = LogDelta | StateDelta
ToDestination = LogDelta | StateDelta | Final
ToSource = Ack | RejectMigration
