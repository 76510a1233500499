"""What a log of lines looks like in a store, and how it is checked when it is read.

    <prefix>/bounds          {"first": 0, "next": 2, "lines": 5, "leader": 41}
    <prefix>/batch/0...0     {"batch": 0, "leader": 41, "first_line": 0, "lines": 3, "crc32": 7}
                             and behind this header the lines, each after a line feed
    <prefix>/batch/0...1     ...

`first` and `next` say which batches there are, `lines` how many lines were ever appended, `leader`
is the fencing number of the writer; the checksum is that of what stands behind the header.
"""

import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import msgspec

from sllmreal.store.errors import JournalGapError
from sllmreal.store.limits import MAX_VALUE_BYTES
from sllmreal.store.protocol import Store
from sllmreal.store.values import KeyValue

MAX_BATCH_BYTES = MAX_VALUE_BYTES - 1024  # lines and their line feeds; the rest is the header's
BATCHES_PER_PAGE = 16


def bounds_key(prefix: str) -> str:
    """Where the bounds are."""
    return f"{prefix}/bounds"


def batch_key(prefix: str, number: int) -> str:
    """Where a batch is: in the order of the numbers."""
    return f"{prefix}/batch/{number:016d}"


@dataclass(frozen=True, slots=True)
class Bounds:
    """Which batches the log has: from `first` to before `next`.

    Attributes:
        num_lines: That were ever appended.
        version: Of the key, 0 when the log has not begun.
    """

    first: int
    next: int
    num_lines: int
    version: int

    @classmethod
    async def read(cls, store: Store, prefix: str) -> "Bounds":
        """As they stand. JournalGapError if something else is there."""
        key = bounds_key(prefix)
        item = await store.get(key)
        if item is None:
            return cls(0, 0, 0, 0)
        plain = parsed_numbers(key, item.value)
        try:
            return cls(plain["first"], plain["next"], plain["lines"], item.version)
        except KeyError as error:
            raise JournalGapError(f"{key} lacks {error}") from error

    def encoded(self, leader: int) -> bytes:
        """As the key's value; no two changes of one leader look alike."""
        return numbers_line(first=self.first, next=self.next, lines=self.num_lines, leader=leader)

    def extended_by(self, num_lines: int) -> "Bounds":
        """One batch more."""
        return Bounds(self.first, self.next + 1, self.num_lines + num_lines, self.version)

    def starting_at(self, first: int) -> "Bounds":
        """Without the batches before."""
        return Bounds(first, self.next, self.num_lines, self.version)

    def at_version(self, version: int) -> "Bounds":
        """As written."""
        return Bounds(self.first, self.next, self.num_lines, version)


@dataclass(frozen=True, slots=True)
class WriteBatch:
    """The lines of one commit.

    Attributes:
        number: Its place in the log.
        leader: The fencing number of its writer.
        first_line: The number of its first line, from the log's beginning.
        lines: Without line feeds.
    """

    number: int
    leader: int
    first_line: int
    lines: tuple[str, ...]

    def encoded(self) -> bytes:
        """As the key's value."""
        body = b"".join(b"\n" + line.encode() for line in self.lines)
        header = numbers_line(
            batch=self.number,
            leader=self.leader,
            first_line=self.first_line,
            lines=len(self.lines),
            crc32=crc32(body),
        )
        return header + body

    @classmethod
    def decoded(cls, item: KeyValue) -> "WriteBatch":
        """JournalGapError if it is none, or not whole."""
        header, *lines = item.value.split(b"\n")
        body = item.value[len(header) :]
        plain = parsed_numbers(item.key, header)
        try:
            number, leader, first_line = plain["batch"], plain["leader"], plain["first_line"]
            num_lines, checksum = plain["lines"], plain["crc32"]
        except KeyError as error:
            raise JournalGapError(f"{item.key} lacks {error}") from error
        if num_lines != len(lines) or checksum != crc32(body):
            raise JournalGapError(f"{item.key} is not what was written: {num_lines} lines")
        return cls(number, leader, first_line, tuple(line.decode() for line in lines))


def numbers_line(**fields: int) -> bytes:
    """An object of numbers as JSON."""
    return msgspec.json.encode(fields)


def parsed_numbers(key: str, value: bytes) -> dict[str, int]:
    """The inverse. JournalGapError if `key` holds something else."""
    try:
        plain: Any = json.loads(value)
    except ValueError as error:
        raise JournalGapError(f"{key} is not JSON: {error}") from error
    if not isinstance(plain, dict) or not all(type(number) is int for number in plain.values()):
        raise JournalGapError(f"{key} is not an object of numbers")
    return plain


async def read_batches(
    store: Store, prefix: str, since: int | None = None
) -> AsyncGenerator[WriteBatch, None]:
    """All batches from `since` on that there are when it begins, the oldest first.

    A reader who is overtaken by a truncation finds a gap: he begins again.

    Raises:
        JournalGapError: A batch is missing, out of order, or not whole.
    """
    bounds = await Bounds.read(store, prefix)
    first = bounds.first if since is None else since
    if not bounds.first <= first <= bounds.next:
        raise JournalGapError(f"{prefix} goes from {bounds.first} to {bounds.next}, not {first}")
    due = WriteBatch(first, 0, -1, ())
    after = None if first == 0 else batch_key(prefix, first - 1)
    while due.number < bounds.next:
        page = await store.range(f"{prefix}/batch/", after=after, limit=BATCHES_PER_PAGE)
        if not page.items:
            raise JournalGapError(f"{batch_key(prefix, due.number)} is missing")
        for item in page.items[: bounds.next - due.number]:
            batch = WriteBatch.decoded(item)
            _check_follows(batch, due, item.key, batch_key(prefix, due.number))
            yield batch
            due = WriteBatch(
                batch.number + 1, batch.leader, batch.first_line + len(batch.lines), ()
            )
        after = page.items[-1].key
    if due.first_line not in {-1, bounds.num_lines}:
        raise JournalGapError(f"{prefix} has {due.first_line} lines instead of {bounds.num_lines}")


def _check_follows(batch: WriteBatch, due: WriteBatch, key: str, due_key: str) -> None:
    if key != due_key or batch.number != due.number:
        raise JournalGapError(f"{due_key} should follow, found batch {batch.number} at {key}")
    if due.first_line not in {-1, batch.first_line}:
        raise JournalGapError(f"{key} begins with line {batch.first_line}, not {due.first_line}")
    if batch.leader < due.leader:
        raise JournalGapError(f"{key} is by leader {batch.leader}, behind leader {due.leader}")


async def read_lines(
    store: Store, prefix: str, since: int | None = None
) -> AsyncGenerator[str, None]:
    """The lines of all batches from `since` on. See `read_batches`."""
    async for batch in read_batches(store, prefix, since):
        for line in batch.lines:
            yield line
