"""The buffer between a generation and its client's connection: a generation never waits."""

import asyncio

from sllmcore.errors import SllmError
from sllmreal.gateway.errors import SlowReaderError


class ResponseOutbox:
    """A bounded queue of bytes for one client. `take` returns all that is queued."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._parts: list[bytes] = []
        self._num_bytes = 0
        self._ended = False
        self._error: SllmError | None = None
        self._changed = asyncio.Event()

    def put(self, data: bytes) -> None:
        """Queue bytes. Raises SlowReaderError if more than `max_bytes` would be queued."""
        if not data:
            return
        if self._num_bytes + len(data) > self._max_bytes and self._parts:
            raise SlowReaderError(
                f"the client reads too slowly: {self._num_bytes} bytes are queued of at most "
                f"{self._max_bytes}"
            )
        self._parts.append(data)
        self._num_bytes += len(data)
        self._changed.set()

    def end(self, error: SllmError | None = None) -> None:
        """End the queue; `take` raises `error` after the queued bytes."""
        self._ended = True
        self._error = error
        self._changed.set()

    async def take(self) -> bytes:
        """Wait for bytes and return all that are queued; empty at the end.

        Raises the error of `end`.
        """
        while not self._parts:
            if self._ended:
                if self._error is not None:
                    raise self._error
                return b""
            self._changed.clear()
            await self._changed.wait()
        data = b"".join(self._parts)
        self._parts.clear()
        self._num_bytes = 0
        return data
