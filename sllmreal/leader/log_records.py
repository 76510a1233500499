"""Records of the leader's log: journal entries, and the report that each event came with."""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol, TypeVar

import msgspec

from sllmcore.errors import ClusterError
from sllmreal.control.deployment import ModelDeployment

JOINED = 0  # in place of a report's number: the incarnation joined with Hello
LOST = -1  # the leader itself marked the incarnation lost


class ReportId(msgspec.Struct, frozen=True, array_like=True):
    """The report that an event came with; `number` may also be JOINED or LOST."""

    peer_id: str
    incarnation: str
    number: int


class LogHeader(msgspec.Struct, frozen=True, array_like=True):
    """The first line of a log.

    Attributes:
        line: The journal's header.
        zero_at_s: Unix time at the cluster's time 0.
        stamp: The version of the code that made the log's decisions, see `code_version`.
    """

    line: str
    zero_at_s: float
    stamp: str = ""


class LogRecord(msgspec.Struct, frozen=True, array_like=True):
    """A journal entry with what the controller does not need.

    Attributes:
        line: The journal's line.
        origin: The report that the event came with; None: the leader's own event.
        model: The model of a `ModelDeployed`.
        address: The data plane of the worker of a `ServerJoined`.
    """

    line: str
    origin: ReportId | None = None
    model: ModelDeployment | None = None
    address: str = ""


class EventLog(Protocol):
    """Durable lines in order, written by one leader at a time: `sllmreal.store.JournalLog`.

    A snapshot may have replaced the first lines, the header among them.
    """

    @property
    def num_keys(self) -> int:
        """The number of keys that the log takes in the store."""
        ...

    async def append(self, lines: Sequence[str]) -> int:
        """Append lines, which are durable on return; return the batch's number for `compact`.

        Raises:
            ClusterError: This leader may not write.
        """
        ...

    async def snapshot(self) -> bytes | None:
        """Return the snapshot that replaces the lines before `lines`; None if there is none."""
        ...

    def lines(self) -> AsyncIterator[str]:
        """Iterate over the lines behind the snapshot."""
        ...

    async def compact(self, snapshot: bytes, batch: int | None = None) -> None:
        """Replace the lines up to batch number `batch` by a snapshot; None: all lines.

        Raises:
            ClusterError: This leader may not write.
        """
        ...


T = TypeVar("T", LogHeader, LogRecord)


def encoded(line: LogHeader | LogRecord) -> str:
    """Return a header or record as a line of the log."""
    return msgspec.json.encode(line).decode()


def decoded(line: str, kind: type[T]) -> T:
    """Return the header or record of a line. Raises ClusterError if the line is malformed."""
    try:
        return msgspec.json.decode(line, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ClusterError(f"a line of the log is no {kind.__name__}: {error}") from error
