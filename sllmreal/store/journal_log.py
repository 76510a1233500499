"""A durable log of journal lines in a store: only the leader appends, from the start on it is read.

Under the log's prefix are `bounds`, with the range of batches, and `batch/<number>`, one key for
each commit. A commit is one transaction of the leader: it compares the version of `bounds`, changes
it and writes the batch. So batches are numbered without a gap under every leader, and a commit with
a lost answer can be sent again without a second write. To bound the log, the leader replaces its
beginning by a snapshot of the state that its lines led to (`snapshots`).
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from sllmcore.errors import SllmError, UsageError
from sllmreal.store.batches import (
    MAX_BATCH_BYTES,
    Bounds,
    WriteBatch,
    batch_key,
    bounds_key,
    read_lines,
)
from sllmreal.store.election import Leadership
from sllmreal.store.errors import JournalGapError, OutcomeUnknownError, StoreUnavailableError
from sllmreal.store.protocol import Store
from sllmreal.store.snapshots import Pointer, read_snapshot, write_snapshot
from sllmreal.store.values import DeleteRange, Get, Put, VersionIs

_LOG = logging.getLogger(__name__)
TRUNCATED_PER_TXN = 1000  # a larger deletion would delay other writers


@dataclass(slots=True)
class _Waiting:
    lines: tuple[str, ...]
    size_bytes: int
    batch: int | None = None  # the number of their batch, once written


class JournalLog:
    """The leader's end of a log. Make it with `await JournalLog.open(store, prefix, leadership)`.

    Lines of concurrent appends share a commit: while one is under way, the next one gathers. After
        an
    error, or after a cancelled append that was being written, nothing more can be appended: open
        the
    log again, as the leader, and read it.
    """

    def __init__(
        self, store: Store, prefix: str, leadership: Leadership, bounds: Bounds, pointer: Pointer
    ) -> None:
        self._store = store
        self._prefix = prefix
        self._leadership = leadership
        self._bounds = bounds
        self._pointer = pointer
        self._waiting: deque[_Waiting] = deque()
        self._one_at_a_time = asyncio.Lock()
        self._failure: SllmError | None = None

    @classmethod
    async def open(cls, store: Store, prefix: str, leadership: Leadership) -> "JournalLog":
        """Continue the log at its end, or begin it.

        Raises:
            JournalGapError: The keys under the prefix are not a log.
        """
        bounds = await Bounds.read(store, prefix)
        return cls(store, prefix, leadership, bounds, await Pointer.read(store, prefix))

    @property
    def next_batch(self) -> int:
        """The number of the next commit's batch."""
        return self._bounds.next

    @property
    def num_keys(self) -> int:
        """The number of the log's keys in the store: batches, pieces, bounds and pointer."""
        num_batches = self._bounds.next - self._bounds.first
        return num_batches + self._pointer.num_pieces + 2

    async def snapshot(self) -> bytes | None:
        """Return the snapshot that replaces the lines before `lines`; None: there is none.

        Raises:
            JournalGapError: The snapshot is not whole.
        """
        return await read_snapshot(self._store, self._prefix, self._pointer)

    def lines(self) -> AsyncGenerator[str, None]:
        """Read all lines after the snapshot that exist now, the oldest first. See `read_lines`."""
        since = self._pointer.since if self._pointer.version else None
        return read_lines(self._store, self._prefix, since)

    async def append(self, lines: Sequence[str]) -> int:
        """Write lines, in the order of the calls; return when they are durable.

        If it is cancelled, the lines may be written or not.

        Returns:
            The number of the batch that contains all of the lines, with those of other calls.

        Raises:
            LeaseLostError: This is not the leader any more; nothing was written.
            OutcomeUnknownError: The store became unavailable; the next leader will read the
                outcome.
            UsageError: A line contains a line feed, or the lines exceed the bytes of a batch.
        """
        self._check_sound()
        size_bytes = sum(len(line.encode()) + 1 for line in lines)
        if size_bytes > MAX_BATCH_BYTES:
            raise UsageError(f"a batch has at most {MAX_BATCH_BYTES} bytes, got {size_bytes}")
        if any("\n" in line for line in lines):
            raise UsageError("a line of a journal must not contain a line feed")
        mine = _Waiting(tuple(lines), size_bytes)
        self._waiting.append(mine)
        async with self._one_at_a_time:
            while mine.batch is None:  # an earlier call may have written these lines, too
                self._check_sound()
                await self._write(self._gathered())
        return mine.batch

    async def compact(self, snapshot: bytes, batch: int | None = None) -> None:
        """Replace all lines up to and including those of `batch` by a snapshot; None: all lines.

        Call it again only after it has returned. The store's own history is compacted, too.

        Raises:
            LeaseLostError: This is not the leader any more.
            OutcomeUnknownError, StoreUnavailableError: The store became unavailable.
        """
        since = self._bounds.next if batch is None else batch + 1
        self._pointer = await write_snapshot(
            self._leadership, self._prefix, self._pointer, since, snapshot
        )
        await self.truncate_before(since)
        _LOG.info(
            "log compacted: a snapshot of %d bytes replaces the batches before %d",
            len(snapshot),
            since,
        )
        with suppress(OutcomeUnknownError, StoreUnavailableError):  # the next compaction retries
            await self._store.compact(self._pointer.version)

    async def truncate_before(self, batch: int) -> None:
        """Delete the batches before this one: a snapshot elsewhere replaces them.

        Raises:
            LeaseLostError: This is not the leader any more.
            UsageError: The log has no such batch, and the next one has another number.
        """
        async with self._one_at_a_time:
            if not self._bounds.first <= batch <= self._bounds.next:
                raise UsageError(
                    f"the log has batches {self._bounds.first} to {self._bounds.next}, got {batch}"
                )
            while self._bounds.first < batch:
                first = min(batch, self._bounds.first + TRUNCATED_PER_TXN)
                gone = DeleteRange(
                    batch_key(self._prefix, self._bounds.first), batch_key(self._prefix, first)
                )
                await self._move(self._bounds.starting_at(first), gone)

    async def _write(self, group: list[_Waiting]) -> None:
        """Commit the lines together."""
        lines = tuple(line for waiting in group for line in waiting.lines)
        batch = WriteBatch(
            self._bounds.next, self._leadership.fencing, self._bounds.num_lines, lines
        )
        put = Put(batch_key(self._prefix, batch.number), batch.encoded())
        try:
            await self._move(self._bounds.extended_by(len(lines)), put)
        except SllmError as error:
            self._failure = error
            raise
        except asyncio.CancelledError:
            self._failure = OutcomeUnknownError("an append was cancelled while it was written")
            raise
        for waiting in group:
            waiting.batch = batch.number

    def _check_sound(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _gathered(self) -> list[_Waiting]:
        """Take those waiting lines that fit into one batch."""
        group = [self._waiting.popleft()]
        size_bytes = group[0].size_bytes
        while self._waiting and size_bytes + self._waiting[0].size_bytes <= MAX_BATCH_BYTES:
            group.append(self._waiting.popleft())
            size_bytes += group[-1].size_bytes
        return group

    async def _move(self, bounds: Bounds, operation: Put | DeleteRange) -> None:
        """Commit the change of the bounds together with the change of the batches."""
        key = bounds_key(self._prefix)
        moved = Put(key, bounds.encoded(self._leadership.fencing))
        compare = VersionIs(key, self._bounds.version)
        result = await self._leadership.retried((compare,), (moved, operation), (Get(key),))
        version = result.revision
        if not result.succeeded:
            # The answer to an earlier try was lost: only this leader writes this value.
            found = result.found[0]
            if found is None or found.value != moved.value:
                raise JournalGapError(f"{key} was changed by a process other than this leader")
            version = found.version
        self._bounds = bounds.at_version(version)
