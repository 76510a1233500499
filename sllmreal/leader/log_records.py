"""What the leader writes before anything takes effect: journal entries, and who reported them."""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol, TypeVar

import msgspec

from sllmcore.errors import ClusterError
from sllmreal.control.deployment import ModelDeployment

JOINED = 0  # in place of a report's number: the incarnation said Hello
LOST = -1  # the leader itself declared the incarnation lost


class ReportId(msgspec.Struct, frozen=True, array_like=True):
    """The report that an event came with."""

    peer_id: str
    incarnation: str
    number: int


class LogHeader(msgspec.Struct, frozen=True, array_like=True):
    """The first line of a log: the journal's header, when by the wall clock its time was 0, and the
    version of the code that decided as the log says (`stamp`)."""

    line: str
    zero_at_s: float
    stamp: str = ""


class LogRecord(msgspec.Struct, frozen=True, array_like=True):
    """A line of the journal, and its origin; None: the leader's own (a deployment, a wake-up).

    With some events comes what peers need and the controller does not: the `model` deployed, the
    `address` of the data plane of a worker that joined.
    """

    line: str
    origin: ReportId | None = None
    model: ModelDeployment | None = None
    address: str = ""


class EventLog(Protocol):
    """Durable lines in order, written by one leader at a time: `sllmreal.store.JournalLog`.

    Its beginning, the header with it, may have been replaced by a snapshot of what it led to.
    """

    @property
    def num_keys(self) -> int:
        """What it takes in the store."""
        ...

    async def append(self, lines: Sequence[str]) -> int:
        """Durable on return, all of them. Raises ClusterError when this leader may not write.

        Returns what `compact` wants to know.
        """
        ...

    async def snapshot(self) -> bytes | None:
        """What stands for the lines before `lines`; None: there were none."""
        ...

    def lines(self) -> AsyncIterator[str]:
        """All lines behind the snapshot."""
        ...

    async def compact(self, snapshot: bytes, batch: int | None = None) -> None:
        """Let a snapshot stand for all lines up to and with those of the append that returned
        `batch`; None: for all. Raises ClusterError when this leader may not write."""
        ...


T = TypeVar("T", LogHeader, LogRecord)


def encoded(line: LogHeader | LogRecord) -> str:
    return msgspec.json.encode(line).decode()


def decoded(line: str, kind: type[T]) -> T:
    """The inverse. Raises ClusterError for what is no such line."""
    try:
        return msgspec.json.decode(line, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ClusterError(f"the log holds something that is no record: {error}") from error
