"""The thread that owns the connection: it commits all waiting calls together.

While the fsync of one group runs, the next group gathers, so that many writers share it: the rate
    of
durable writes is that of fsyncs times the number of concurrent writers. No answer and no event
shows a change that is not yet on disk. A failed commit ends the store, because the content of the
disk after a failed fsync is unknown: open the file again.
"""

import asyncio
import logging
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sllmcore.errors import SllmError
from sllmreal.store.clock import LeaseClock
from sllmreal.store.errors import OutcomeUnknownError, StoreFormatError, StoreUnavailableError
from sllmreal.store.machine import Machine
from sllmreal.store.sqlite.table import SqlTable, boot_id
from sllmreal.store.values import Event

_LOG = logging.getLogger(__name__)
T = TypeVar("T")
MAX_GROUP = 256  # calls in one commit: bounds the wait of the first call for the last


@dataclass(frozen=True, slots=True)
class Work:
    """A call to execute, and the future of its result."""

    call: Callable[[Machine, SqlTable], Any]
    waiter: asyncio.Future[Any]


@dataclass(frozen=True, slots=True)
class CommitResult:
    """The events of a commit, for watchers, and the next deadline of a lease."""

    events: list[Event]
    next_deadline_s: float | None


class Committer:
    """Runs calls from one event loop. `on_commit` is called in the loop, before the answers."""

    def __init__(
        self, path: Path, clock: LeaseClock, on_commit: Callable[[CommitResult], None]
    ) -> None:
        self._path = path
        self._clock = clock
        self._on_commit = on_commit
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._at_work: list[Work] = []
        self._ended: asyncio.Future[SllmError] = self._loop.create_future()
        self._thread = threading.Thread(target=self._run, name=f"store {path.name}", daemon=True)

    async def open(self) -> int:
        """Start the thread; return the file's revision.

        Raises:
            StoreFormatError: The file is not a store.
            StoreUnavailableError: SQLite cannot open it.
        """
        self._thread.start()
        return await self.call(lambda machine, table: table.revision)

    async def call(self, work: Callable[[Machine, SqlTable], T]) -> T:
        """Execute a call as if alone in its transaction, and make it durable."""
        if self._ended.done():
            raise self._ended.result()
        waiter: asyncio.Future[T] = self._loop.create_future()
        self._queue.put(Work(work, waiter))
        return await waiter

    def nudge(self) -> None:
        """Commit soon, because leases are due."""
        nobody: asyncio.Future[None] = self._loop.create_future()
        nobody.cancel()
        self._queue.put(Work(lambda machine, table: None, nobody))

    async def close(self) -> None:
        """Execute the waiting calls, then close the file."""
        self._queue.put(None)
        await asyncio.shield(self._ended)

    def _run(self) -> None:
        end: SllmError = StoreUnavailableError(f"{self._path} is closed")
        try:
            with closing(_connected(self._path)) as connection:
                self._serve(connection, SqlTable(connection, boot_id(), self._clock.now_s()))
        except StoreFormatError as error:
            end = error
        except (sqlite3.Error, OSError) as error:
            foreign = getattr(error, "sqlite_errorname", "") == "SQLITE_NOTADB"
            kind = StoreFormatError if foreign else StoreUnavailableError
            end = kind(f"{self._path}: {error}")
            _LOG.error("store unavailable, its file has to be opened again: %s", end)
        finally:
            self._in_loop(self._end, end)

    def _serve(self, connection: sqlite3.Connection, table: SqlTable) -> None:
        machine = Machine(table)
        going_on = True
        while going_on:
            works = [self._queue.get()]
            while works[-1] and len(works) < MAX_GROUP and not self._queue.empty():
                works.append(self._queue.get())
            going_on = works[-1] is not None
            self._at_work = [work for work in works if work]
            self._commit(connection, machine, table)

    def _commit(self, connection: sqlite3.Connection, machine: Machine, table: SqlTable) -> None:
        """Commit all of the group or none. Raises sqlite3.Error if that is unknown."""
        revision = table.revision
        try:
            connection.execute("BEGIN IMMEDIATE")
            machine.expire(self._clock.now_s())
            results = [_result(work, machine, table) for work in self._at_work]
            if table.revision != revision:
                table.save_revision()
            next_deadline_s = table.next_deadline_s()
        except sqlite3.Error as error:
            connection.rollback()
            table.rolled_back(revision)
            machine.take_events()
            refusal = StoreUnavailableError(f"{self._path}: {error}")
            self._in_loop(_answer, self._at_work, [refusal] * len(self._at_work))
            return
        connection.execute("COMMIT")
        result = CommitResult(machine.take_events(), next_deadline_s)
        self._in_loop(self._deliver, self._at_work, results, result)
        self._at_work = []

    def _in_loop(self, call: Callable[..., None], *arguments: object) -> None:
        """Call in the event loop; after the loop has closed no caller waits."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call, *arguments)

    def _deliver(self, works: list[Work], results: list[object], result: CommitResult) -> None:
        self._on_commit(result)
        _answer(works, results)

    def _end(self, end: SllmError) -> None:
        """End the calls: the outcome of those in the failed commit is unknown."""
        unknown = OutcomeUnknownError(f"{end}, during the commit")
        _answer(self._at_work, [unknown] * len(self._at_work))
        while not self._queue.empty():
            if work := self._queue.get():
                _answer([work], [end])
        self._ended.set_result(end)


def _result(work: Work, machine: Machine, table: SqlTable) -> object:
    """Return what the call returns or raises; it raises before it has changed anything."""
    try:
        return work.call(machine, table)
    except SllmError as error:
        return error


def _answer(works: list[Work], results: Sequence[object]) -> None:
    for work, result in zip(works, results, strict=True):
        if work.waiter.done():  # cancelled
            continue
        if isinstance(result, SllmError):
            work.waiter.set_exception(result)
        else:
            work.waiter.set_result(result)


def _connected(path: Path) -> sqlite3.Connection:
    """Return the only connection: SQLite before 3.51.3 can corrupt a WAL with several ones."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    _fsync_folder(path.parent)
    return connection


def _fsync_folder(folder: Path) -> None:
    """Make the file's name survive a power failure, too."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
