"""Between a request's generation, which never waits for its client, and the client's connection."""

import asyncio

from sllmcore.errors import SllmError
from sllmreal.gateway.errors import SlowReaderError


class ResponseOutbox:
    """Bytes for one client. What gathers while it is slow is taken all at once, or is too much."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._parts: list[bytes] = []
        self._num_bytes = 0
        self._ended = False
        self._error: SllmError | None = None
        self._changed = asyncio.Event()

    def put(self, data: bytes) -> None:
        """Raises SlowReaderError when more than the bound would wait."""
        if not data:
            return
        if self._num_bytes + len(data) > self._max_bytes and self._parts:
            raise SlowReaderError(f"{self._num_bytes} bytes wait for a client that does not read")
        self._parts.append(data)
        self._num_bytes += len(data)
        self._changed.set()

    def end(self, error: SllmError | None = None) -> None:
        """Nothing more comes, or `error` after what was put."""
        self._ended = True
        self._error = error
        self._changed.set()

    async def take(self) -> bytes:
        """All that waits, at least a byte; empty at the end, where the error is raised if any."""
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
