"""Messages between a host's process and its parent: u32 length | MessagePack.

Both ends hold one end each of a pair of sockets that nobody else has, so that there is nothing to
prove; a length is bounded all the same.
"""

import socket
import struct
import threading
from queue import SimpleQueue
from typing import Generic, TypeVar

import msgspec

from sllmreal.engine.errors import EngineLostError

_LENGTH = struct.Struct("<I")
MAX_MESSAGE_BYTES = 64 << 20  # a prompt of a million tokens is 4 MiB
T = TypeVar("T")


class MessageReader(Generic[T]):
    """Reads messages of one union of types."""

    def __init__(self, connection: socket.socket, kind: object) -> None:
        self._stream = connection.makefile("rb")
        self._decoder: msgspec.msgpack.Decoder[T] = msgspec.msgpack.Decoder(kind)

    def read(self) -> T | None:
        """The next message, None at the end. Raises EngineLostError on what is no message."""
        try:
            (size_bytes,) = _LENGTH.unpack(self._stream.read(_LENGTH.size) or bytes(_LENGTH.size))
            if size_bytes > MAX_MESSAGE_BYTES:
                raise EngineLostError(f"a message of {size_bytes} bytes")
            raw = self._stream.read(size_bytes)
        except (OSError, struct.error):
            return None
        if not size_bytes or len(raw) < size_bytes:
            return None
        try:
            return self._decoder.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise EngineLostError(f"not a message: {error}") from error

    def close(self) -> None:
        self._stream.close()


class MessageWriter:
    """Writes messages in a thread of its own: a parent that stands still does not stop an engine.

    What waits is bounded by what the streams of a host may still generate.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._queue: SimpleQueue[msgspec.Struct | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="parent writer", daemon=True)
        self._thread.start()

    def write(self, message: msgspec.Struct) -> None:
        self._queue.put(message)

    def close(self) -> None:
        """Wait until all is written, or the other end is gone."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (message := self._queue.get()) is not None:
            raw = msgspec.msgpack.encode(message)
            try:
                self._connection.sendall(_LENGTH.pack(len(raw)) + raw)
            except OSError:
                return  # the reader meets the end, and whoever reads acts on it
