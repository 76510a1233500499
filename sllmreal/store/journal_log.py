"""A durable log of journal lines in a store: appended by the leader alone, read from the start.

Under the log's prefix lie `bounds`, which says which batches there are, and `batch/<number>`, one
key for each commit. A commit is one transaction of the leader: it compares the version of `bounds`,
moves it and writes the batch, so batches are numbered without a gap whoever leads, and a commit
whose answer was lost can be sent again without writing twice. So that it does not grow for ever,
the leader puts a snapshot of what the lines led to in the place of its beginning (`snapshots`).
"""

import asyncio
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

TRUNCATED_PER_TXN = 1000  # deleting more at once would keep other writers waiting


@dataclass(slots=True)
class _Waiting:
    lines: tuple[str, ...]
    size_bytes: int
    batch: int | None = None  # that holds them


class JournalLog:
    """The leader's end of a log. Make it with `await JournalLog.open(store, prefix, leadership)`.

    Lines of concurrent appends share a commit: while one is under way, the next one gathers.
    After an error, or when an append was cancelled that was being written, nothing more can be
    appended: open the log anew, as the leader, and read it.
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
        """Continue the log where it ends, or begin it.

        Raises:
            JournalGapError: What is there is no log.
        """
        bounds = await Bounds.read(store, prefix)
        return cls(store, prefix, leadership, bounds, await Pointer.read(store, prefix))

    @property
    def next_batch(self) -> int:
        """The number that the next commit's batch will have."""
        return self._bounds.next

    @property
    def num_keys(self) -> int:
        """How many keys of the store the log takes: batches, pieces, and what points to them."""
        num_batches = self._bounds.next - self._bounds.first
        return num_batches + self._pointer.num_pieces + 2

    async def snapshot(self) -> bytes | None:
        """What stands for the lines before `lines`; None: there were none.

        Raises:
            JournalGapError: It is not whole.
        """
        return await read_snapshot(self._store, self._prefix, self._pointer)

    def lines(self) -> AsyncGenerator[str, None]:
        """All lines behind the snapshot, from the oldest on, as of now. See `read_lines`."""
        since = self._pointer.since if self._pointer.version else None
        return read_lines(self._store, self._prefix, since)

    async def append(self, lines: Sequence[str]) -> int:
        """Write lines, in the order of the calls; return when they are durable.

        Cancelling it leaves open whether they are written.

        Returns:
            The number of the batch that holds them, all of them, with those of other calls.

        Raises:
            LeaseLostError: This is not the leader any more; nothing was written.
            OutcomeUnknownError: The store went away; whoever leads next will see.
            UsageError: A line feed within a line, or more bytes than a batch can hold.
        """
        self._check_sound()
        size_bytes = sum(len(line.encode()) + 1 for line in lines)
        if size_bytes > MAX_BATCH_BYTES:
            raise UsageError(f"a batch has up to {MAX_BATCH_BYTES} bytes, got {size_bytes}")
        if any("\n" in line for line in lines):
            raise UsageError("a line of a journal has no line feed within")
        mine = _Waiting(tuple(lines), size_bytes)
        self._waiting.append(mine)
        async with self._one_at_a_time:
            while mine.batch is None:  # who came before may have written it too, or failed to
                self._check_sound()
                await self._write(self._gathered())
        return mine.batch

    async def compact(self, snapshot: bytes, batch: int | None = None) -> None:
        """Let a snapshot stand for all lines up to and with those of `batch`; None: for all.

        One at a time. The store's own history of the time before goes too.

        Raises:
            LeaseLostError: This is not the leader any more.
            OutcomeUnknownError, StoreUnavailableError: The store went away.
        """
        since = self._bounds.next if batch is None else batch + 1
        self._pointer = await write_snapshot(
            self._leadership, self._prefix, self._pointer, since, snapshot
        )
        await self.truncate_before(since)
        with suppress(OutcomeUnknownError, StoreUnavailableError):  # the next time, then
            await self._store.compact(self._pointer.version)

    async def truncate_before(self, batch: int) -> None:
        """Forget the batches before this one: they are behind a snapshot kept elsewhere.

        Raises:
            LeaseLostError: This is not the leader any more.
            UsageError: There is no such batch, and the next one is another.
        """
        async with self._one_at_a_time:
            if not self._bounds.first <= batch <= self._bounds.next:
                raise UsageError(
                    f"the log goes from {self._bounds.first} to {self._bounds.next}, got {batch}"
                )
            while self._bounds.first < batch:
                first = min(batch, self._bounds.first + TRUNCATED_PER_TXN)
                gone = DeleteRange(
                    batch_key(self._prefix, self._bounds.first), batch_key(self._prefix, first)
                )
                await self._move(self._bounds.starting_at(first), gone)

    async def _write(self, group: list[_Waiting]) -> None:
        """Commit them together."""
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
        """Those that fit into one batch."""
        group = [self._waiting.popleft()]
        size_bytes = group[0].size_bytes
        while self._waiting and size_bytes + self._waiting[0].size_bytes <= MAX_BATCH_BYTES:
            group.append(self._waiting.popleft())
            size_bytes += group[-1].size_bytes
        return group

    async def _move(self, bounds: Bounds, operation: Put | DeleteRange) -> None:
        """Commit the change of the bounds together with what makes it true."""
        key = bounds_key(self._prefix)
        moved = Put(key, bounds.encoded(self._leadership.fencing))
        compare = VersionIs(key, self._bounds.version)
        result = await self._leadership.insisted((compare,), (moved, operation), (Get(key),))
        version = result.revision
        if not result.succeeded:
            # An answer was lost: this leader alone writes this value, so it was the first try.
            found = result.found[0]
            if found is None or found.value != moved.value:
                raise JournalGapError(f"{key} was changed by another than leader {moved.value!r}")
            version = found.version
        self._bounds = bounds.at_version(version)
