"""The layout of a log of lines in a store, and the checks of a reader.

    <prefix>/bounds          {"first": 0, "next": 2, "lines": 5, "leader": 41}
    <prefix>/batch/0...0     {"batch": 0, "leader": 41, "first_line": 0, "lines": 3, "crc32": 7}
                             and behind this header the lines, each after a line feed
    <prefix>/batch/0...1     ...

The log has the batches from `first` to before `next`. `lines` counts all lines ever appended,
`leader` is the fencing number of the writer; the checksum covers the bytes behind the header.
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

MAX_BATCH_BYTES = MAX_VALUE_BYTES - 1024  # of lines and line feeds; the rest is for the header
BATCHES_PER_PAGE = 16


def bounds_key(prefix: str) -> str:
    """Return the key of the bounds."""
    return f"{prefix}/bounds"


def batch_key(prefix: str, number: int) -> str:
    """Return the key of a batch; keys sort by number."""
    return f"{prefix}/batch/{number:016d}"


@dataclass(frozen=True, slots=True)
class Bounds:
    """The batches of a log: from `first` to before `next`.

    Attributes:
        num_lines: Lines that were ever appended.
        version: Version of the key; 0 while the log is empty.
    """

    first: int
    next: int
    num_lines: int
    version: int

    @classmethod
    async def read(cls, store: Store, prefix: str) -> "Bounds":
        """Read the bounds. Raises JournalGapError if the key has another content."""
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
        """Return the key's value; two changes by one leader never have the same value."""
        return numbers_line(first=self.first, next=self.next, lines=self.num_lines, leader=leader)

    def extended_by(self, num_lines: int) -> "Bounds":
        """Return the bounds with another batch."""
        return Bounds(self.first, self.next + 1, self.num_lines + num_lines, self.version)

    def starting_at(self, first: int) -> "Bounds":
        """Return the bounds without the batches before `first`."""
        return Bounds(first, self.next, self.num_lines, self.version)

    def at_version(self, version: int) -> "Bounds":
        """Return the bounds with the version of their key."""
        return Bounds(self.first, self.next, self.num_lines, version)


@dataclass(frozen=True, slots=True)
class WriteBatch:
    """The lines of one commit.

    Attributes:
        number: Index of the batch in the log.
        leader: Fencing number of the writer.
        first_line: Index of its first line in the log.
        lines: Lines without line feeds.
    """

    number: int
    leader: int
    first_line: int
    lines: tuple[str, ...]

    def encoded(self) -> bytes:
        """Return the key's value."""
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
        """Read a batch. Raises JournalGapError if the value is not a whole batch."""
        header, *lines = item.value.split(b"\n")
        body = item.value[len(header) :]
        plain = parsed_numbers(item.key, header)
        try:
            number, leader, first_line = plain["batch"], plain["leader"], plain["first_line"]
            num_lines, checksum = plain["lines"], plain["crc32"]
        except KeyError as error:
            raise JournalGapError(f"{item.key} lacks {error}") from error
        if num_lines != len(lines) or checksum != crc32(body):
            raise JournalGapError(f"{item.key} is damaged: its header has {num_lines} lines")
        return cls(number, leader, first_line, tuple(line.decode() for line in lines))


def numbers_line(**fields: int) -> bytes:
    """Return numbers as a JSON object."""
    return msgspec.json.encode(fields)


def parsed_numbers(key: str, value: bytes) -> dict[str, int]:
    """Read a JSON object of numbers. Raises JournalGapError if `key` has another content."""
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
    """Read all batches from `since` on that exist at the call, the oldest first.

    A truncation meanwhile may remove batches that are still to be read: then read again.

    Raises:
        JournalGapError: A batch is missing, out of order, or not whole.
    """
    bounds = await Bounds.read(store, prefix)
    first = bounds.first if since is None else since
    if not bounds.first <= first <= bounds.next:
        raise JournalGapError(f"{prefix} has batches {bounds.first} to {bounds.next}, not {first}")
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
        raise JournalGapError(f"{due_key} is missing: batch {batch.number} at {key} follows")
    if due.first_line not in {-1, batch.first_line}:
        raise JournalGapError(f"{key} begins with line {batch.first_line}, not {due.first_line}")
    if batch.leader < due.leader:
        raise JournalGapError(f"{key} is by leader {batch.leader}, but follows leader {due.leader}")


async def read_lines(
    store: Store, prefix: str, since: int | None = None
) -> AsyncGenerator[str, None]:
    """Read the lines of all batches from `since` on. See `read_batches`."""
    async for batch in read_batches(store, prefix, since):
        for line in batch.lines:
            yield line
