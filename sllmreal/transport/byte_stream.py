"""A connection's received bytes, buffered until they are read.

It replaces asyncio's streams, which suspend and wake the reader for each part of a frame.
"""

import asyncio
import socket
from collections.abc import Callable

MAX_UNREAD_BYTES = 256 << 10  # above it reading pauses; one read may bring more
SILENT_MACHINE_S = 10.0  # until a TCP connection to a machine that is gone is closed


class ByteStream(asyncio.Protocol):
    """An end of a connection, for one reader at a time.

    Args:
        opened: Called when the connection is made.

    Attributes:
        unread: The bytes received; the reader removes those that it has read.
        transport: The connection, to write to.
    """

    def __init__(self, opened: Callable[["ByteStream"], None] | None = None) -> None:
        self.unread = bytearray()
        self.transport: asyncio.Transport
        self._opened = opened
        self._reader: asyncio.Future[None] | None = None
        self._end: Exception | None = None
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport), "a stream's transport can be written to"
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
        self._ended(EOFError("the connection was closed"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended(exc or EOFError("the connection was closed"))

    async def more(self) -> None:
        """Return when further bytes have come.

        Raises:
            EOFError: The connection was closed.
            OSError: The connection broke.
        """
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
        """Remove and return the next `num_bytes` bytes. Raises like `more`."""
        while len(self.unread) < num_bytes:
            await self.more()
        taken = bytes(self.unread[:num_bytes])
        del self.unread[:num_bytes]
        return taken

    def close(self) -> None:
        """End the reader now; bytes that were written are still sent."""
        self.transport.close()
        self._ended(EOFError("the connection was closed at this end"))

    def notice_silence(self) -> None:
        """Have TCP close the connection when the other machine is silent for SILENT_MACHINE_S.

        A machine that is gone does not reset its connections, so the kernel probes it.
        """
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
