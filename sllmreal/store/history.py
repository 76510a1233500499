"""Past events of a store in this process, for its watchers."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable

from sllmreal.store.errors import CompactedError, StoreUnavailableError
from sllmreal.store.limits import check_watch
from sllmreal.store.values import Event, Written

HISTORY_BYTES = 64 << 20
_EVENT_BYTES = 256  # memory of an event besides its value, roughly


class History:
    """The latest events, oldest first, up to a size in bytes. Used from one event loop.

    A watcher has no queue: it remembers the number of the next event. A slow watcher costs nothing,
        and
    gets CompactedError when the history has passed it.
    """

    def __init__(self, revision: int, max_bytes: int = HISTORY_BYTES) -> None:
        self._events: deque[Event] = deque()
        self._first = 0  # the number of the oldest event kept
        self._forgotten = revision
        self._num_bytes = 0
        self._max_bytes = max_bytes
        self._closed = False
        self._news = asyncio.Event()

    def publish(self, events: Iterable[Event]) -> None:
        """Append the events of committed transactions, in order."""
        for event in events:
            self._events.append(event)
            self._num_bytes += _size_bytes(event)
        while self._num_bytes > self._max_bytes:
            self.forget(self._events[0].revision)
        self._wake()

    def forget(self, revision: int) -> None:
        """Drop all events up to and including this revision."""
        self._forgotten = max(self._forgotten, revision)
        while self._events and self._events[0].revision <= revision:
            self._num_bytes -= _size_bytes(self._events.popleft())
            self._first += 1

    def close(self) -> None:
        """Make every watcher raise StoreUnavailableError."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def watch(self, prefix: str, from_revision: int) -> AsyncGenerator[Event, None]:
        """See `Store.watch`."""
        check_watch(prefix, from_revision)
        return self._follow(prefix, from_revision)

    async def _follow(self, prefix: str, revision: int) -> AsyncGenerator[Event, None]:
        number = None
        while True:
            if self._closed:
                raise StoreUnavailableError("the store is closed")
            if number is None:
                if revision <= self._forgotten:
                    raise CompactedError(revision, self._forgotten + 1)
                number = self._first
            elif number < self._first:
                raise CompactedError(revision, self._forgotten + 1)
            if number == self._first + len(self._events):
                await self._news.wait()
                continue
            event = self._events[number - self._first]
            number += 1
            if event.revision >= revision and event.key.startswith(prefix):
                revision = event.revision
                yield event


def _size_bytes(event: Event) -> int:
    return _EVENT_BYTES + (len(event.item.value) if isinstance(event, Written) else 0)
