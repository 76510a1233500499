"""A connection's bytes: those that come wait here until they are wanted.

Not asyncio's streams, which wake the reader, and have it wait, for each part of a frame.
"""

import asyncio
import socket
from collections.abc import Callable

MAX_UNREAD_BYTES = 256 << 10  # and what one reading brings; the other end waits meanwhile
SILENT_MACHINE_S = 10.0  # until a TCP connection to a machine that is gone counts as closed


class ByteStream(asyncio.Protocol):
    """One end of a connection. One reader at a time.

    Args:
        opened: Told when there is a connection.

    Attributes:
        unread: Whoever has read some of it removes that.
        transport: To write to.
    """

    def __init__(self, opened: Callable[["ByteStream"], None] | None = None) -> None:
        self.unread = bytearray()
        self.transport: asyncio.Transport
        self._opened = opened
        self._reader: asyncio.Future[None] | None = None
        self._end: Exception | None = None
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport), "a stream's"
        self.transport = transport
        if self._opened is not None:
            self._opened(self)

    def data_received(self, data: bytes) -> None:
        self.unread += data
        if len(self.unread) > MAX_UNREAD_BYTES and not self._paused:
            self._paused = True
            self.transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        self._ended(EOFError("it was closed"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended(exc or EOFError("it was closed"))

    async def more(self) -> None:
        """Return when there is more to read than there was. EOFError or OSError when there will be
        none."""
        if self._end is not None:
            raise self._end
        if self._paused:
            self._paused = False
            self.transport.resume_reading()
        self._reader = asyncio.get_running_loop().create_future()
        try:
            await self._reader
        finally:
            self._reader = None

    async def exactly(self, num_bytes: int) -> bytes:
        """So many, removed. Raises as `more`."""
        while len(self.unread) < num_bytes:
            await self.more()
        taken = bytes(self.unread[:num_bytes])
        del self.unread[:num_bytes]
        return taken

    def close(self) -> None:
        """Send what was written, and have the reader end now, though the other end may not read."""
        self.transport.close()
        self._ended(EOFError("it was closed here"))

    def notice_silence(self) -> None:
        """A machine that is gone resets nothing: probe it, and bound how long it acknowledges
        none."""
        connection = self.transport.get_extra_info("socket")
        if connection.family == socket.AF_UNIX:
            return
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, int(SILENT_MACHINE_S / 2))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
        silent_ms = int(SILENT_MACHINE_S * 1000)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, silent_ms)

    def _ended(self, end: Exception) -> None:
        if self._end is None:
            self._end = end
        self._wake()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)
