"""Channels of typed messages between processes or within one; frames are bounded, authenticated.

A connection begins with nonces of both ends and proofs that both hold the key; each frame then is

    u32 length | 16 bytes of BLAKE2b(session key of the direction, counter | payload) | payload

so that nothing can be injected, repeated or cut out. (Keyed BLAKE2b takes a sixth of the time of
OpenSSL's HMAC here, and a request has dozens of frames.) The payload is MessagePack. There is no
secrecy: across an untrusted network, tunnel it. An address is `unix:PATH` or `tcp:HOST:PORT`.
"""

import asyncio
import hashlib
import hmac
import os
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from sllmcore.errors import UsageError
from sllmreal.protocol.addresses import notice_silence, open_connection, start_server
from sllmreal.protocol.errors import ChannelClosedError

MAX_FRAME_BYTES = 4 << 20
MAX_BACKLOG_BYTES = 16 << 20  # of frames that a slow reader has not taken
HANDSHAKE_S = 5.0
MAX_STRANGERS = 64  # connections at once that have proven nothing yet
_LENGTH = struct.Struct("<I")
_COUNTER = struct.Struct("<Q")
_CODE_BYTES = 16
_NONCE_BYTES = 32
MIN_KEY_BYTES = 16
Out = TypeVar("Out", contravariant=True)
In = TypeVar("In", covariant=True)
M = TypeVar("M")


class Channel(Protocol[Out, In]):
    """One end of a connection. In order, each message once, until it is closed."""

    def post(self, message: Out) -> None:
        """Send without waiting. Raises ChannelClosedError, also for a reader that is too slow."""
        ...

    async def receive(self) -> In:
        """The next message. Raises ChannelClosedError when there will be none."""
        ...

    def close(self) -> None:
        """Close both directions; may be called twice."""
        ...


class MemoryChannel(Generic[Out, In]):
    """One end of a pair within a process."""

    def __init__(self) -> None:
        self._incoming: asyncio.Queue[Any] = asyncio.Queue()
        self._other: MemoryChannel[Any, Any] | None = None
        self._closed = False

    def post(self, message: Out) -> None:
        if self._closed or self._other is None or self._other._closed:
            raise ChannelClosedError("the other end has closed")
        self._other._incoming.put_nowait(message)

    async def receive(self) -> In:
        message = None if self._closed else await self._incoming.get()
        if message is None:
            self._closed = True
            raise ChannelClosedError("the other end has closed")
        received: In = message
        return received

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._incoming.put_nowait(None)
            if self._other is not None:
                self._other._incoming.put_nowait(None)


def memory_pair() -> tuple[MemoryChannel[Any, Any], MemoryChannel[Any, Any]]:
    """Both ends of a connection within this process."""
    one: MemoryChannel[Any, Any] = MemoryChannel()
    other: MemoryChannel[Any, Any] = MemoryChannel()
    one._other, other._other = other, one
    return one, other


class _Authenticator:
    """The codes of one direction's frames, in their order."""

    def __init__(self, key: bytes) -> None:
        self._keyed = hashlib.blake2b(key=key, digest_size=_CODE_BYTES)
        self._num_frames = 0

    def next_code(self, payload: bytes) -> bytes:
        code = self._keyed.copy()
        code.update(_COUNTER.pack(self._num_frames))
        code.update(payload)
        self._num_frames += 1
        return code.digest()


class SocketChannel(Generic[Out, In]):
    """One end of an authenticated stream connection; made by `dial` and `listening`.

    What is posted within one turn of the event loop is sent at its end, by one system call.
    """

    def __init__(
        self,
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        keys: tuple[bytes, bytes],
        kind: Any,
    ) -> None:
        self._reader, self._writer = streams
        self._sending, self._receiving = map(_Authenticator, keys)
        self._loop = asyncio.get_running_loop()
        self._unsent = bytearray()
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(kind)

    def post(self, message: Out) -> None:
        payload = self._encoder.encode(message)
        if len(payload) > MAX_FRAME_BYTES:
            raise UsageError(f"a message of {len(payload)} bytes; {MAX_FRAME_BYTES} are allowed")
        transport = self._writer.transport
        backlog_bytes = transport.get_write_buffer_size() + len(self._unsent)
        if transport.is_closing() or backlog_bytes > MAX_BACKLOG_BYTES:
            self.close()
            raise ChannelClosedError("the other end is gone, or too slow")
        if not self._unsent:
            self._loop.call_soon(self._send)
        self._unsent += _LENGTH.pack(len(payload)) + self._sending.next_code(payload) + payload

    def _send(self) -> None:
        if self._unsent and not self._writer.transport.is_closing():
            self._writer.write(bytes(self._unsent))
        self._unsent.clear()

    async def receive(self) -> In:
        try:
            head = await self._reader.readexactly(_LENGTH.size + _CODE_BYTES)
            (size_bytes,) = _LENGTH.unpack_from(head)
            if size_bytes > MAX_FRAME_BYTES:
                raise ChannelClosedError(f"a frame of {size_bytes} bytes")
            payload = await self._reader.readexactly(size_bytes)
            if not hmac.compare_digest(head[_LENGTH.size :], self._receiving.next_code(payload)):
                raise ChannelClosedError("a frame's authentication code is wrong")
            message: In = self._decoder.decode(payload)
        except (
            OSError,
            EOFError,
            msgspec.DecodeError,
            UnicodeDecodeError,
            RecursionError,
        ) as error:
            self.close()
            raise ChannelClosedError(f"the other end is gone: {error}") from error
        except ChannelClosedError:
            self.close()
            raise
        return message

    def close(self) -> None:
        self._send()
        self._writer.close()


async def dial(address: str, key: bytes, receives: Any) -> SocketChannel[Any, Any]:
    """Connect to an address. `receives` is the union of messages to come.

    Raises ChannelClosedError when nobody listens there or the key is not theirs.
    """
    _check_key(key)
    try:
        async with asyncio.timeout(HANDSHAKE_S):
            reader, writer = await open_connection(address)
            try:
                keys = await _prove_as_client(reader, writer, key)
                notice_silence(writer)
            except BaseException:
                writer.close()
                raise
    except (OSError, EOFError) as error:
        raise ChannelClosedError(f"{address} cannot be reached: {error}") from error
    return SocketChannel((reader, writer), keys, receives)


@asynccontextmanager
async def listening(
    address: str,
    key: bytes,
    receives: Any,
    serve: Callable[[SocketChannel[Any, Any]], Awaitable[None]],
) -> AsyncIterator[str]:
    """Accept connections and run `serve` for each; yields the address, its port filled in.

    Raises ClusterError where nobody can listen there, as when somebody does.
    """
    _check_key(key)
    tasks: set[asyncio.Task[None]] = set()
    strangers = asyncio.Semaphore(MAX_STRANGERS)

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if strangers.locked():
            writer.close()
            return
        tasks.add(task)
        try:
            async with strangers, asyncio.timeout(HANDSHAKE_S):
                keys = await _prove_as_server(reader, writer, key)
            notice_silence(writer)
            channel = SocketChannel[Any, Any]((reader, writer), keys, receives)
            with closing(channel):
                await serve(channel)
        except (OSError, EOFError, ChannelClosedError, asyncio.CancelledError):
            return  # cancelled: the server is closing, and asyncio would log it as an error
        finally:
            tasks.discard(task)
            writer.close()

    server, bound = await start_server(address, accepted)
    try:
        yield bound
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _check_key(key: bytes) -> None:
    if len(key) < MIN_KEY_BYTES:
        raise UsageError(f"a cluster's key has at least {MIN_KEY_BYTES} bytes, got {len(key)}")


async def _prove_as_client(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: bytes
) -> tuple[bytes, bytes]:
    ours = os.urandom(_NONCE_BYTES)
    writer.write(ours)
    theirs = await reader.readexactly(_NONCE_BYTES)
    proof = await reader.readexactly(hashlib.sha256().digest_size)
    if not hmac.compare_digest(proof, _derived(key, b"server", ours + theirs)):
        raise ChannelClosedError("the other end does not hold this cluster's key")
    writer.write(_derived(key, b"client", ours + theirs))
    return _derived(key, b"up", ours + theirs), _derived(key, b"down", ours + theirs)


async def _prove_as_server(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: bytes
) -> tuple[bytes, bytes]:
    theirs = await reader.readexactly(_NONCE_BYTES)
    ours = os.urandom(_NONCE_BYTES)
    writer.write(ours + _derived(key, b"server", theirs + ours))
    proof = await reader.readexactly(hashlib.sha256().digest_size)
    if not hmac.compare_digest(proof, _derived(key, b"client", theirs + ours)):
        raise ChannelClosedError("the other end does not hold this cluster's key")
    return _derived(key, b"down", theirs + ours), _derived(key, b"up", theirs + ours)


def _derived(key: bytes, label: bytes, nonces: bytes) -> bytes:
    return hmac.digest(key, label + b"\0" + nonces, "sha256")
