"""Channels between processes, with bounded and authenticated frames.

A connection begins with nonces and with proofs that both ends have the key. Each frame then is

    u32 length | 16 bytes of BLAKE2b(session key of the direction, counter | payload) | payload

so that no frame can be injected, repeated or removed. (Keyed BLAKE2b takes a sixth of the time of
OpenSSL's HMAC here, and a request has dozens of frames.) The payload is MessagePack. It is not
encrypted: use a tunnel across an untrusted network. An address is `unix:PATH` or `tcp:HOST:PORT`.
"""

import asyncio
import hashlib
import hmac
import os
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from typing import Any, Generic

import msgspec

from sllmcore.errors import UsageError
from sllmreal.transport.addresses import connected, start_server
from sllmreal.transport.byte_stream import ByteStream
from sllmreal.transport.channel import In, Out
from sllmreal.transport.errors import ChannelClosedError

MAX_FRAME_BYTES = 4 << 20
MAX_BACKLOG_BYTES = 16 << 20  # frames that a slow reader has not taken
HANDSHAKE_S = 5.0
MAX_UNAUTHENTICATED = 64  # concurrent connections during the handshake
MIN_KEY_BYTES = 16
_LENGTH = struct.Struct("<I")
_COUNTER = struct.Struct("<Q")
_CODE_BYTES = 16
_HEAD_BYTES = _LENGTH.size + _CODE_BYTES
_NONCE_BYTES = 32
_PROOF_BYTES = hashlib.sha256().digest_size


class _Authenticator:
    """Makes the authentication codes of the frames of one direction, in order."""

    def __init__(self, key: bytes) -> None:
        self._keyed = hashlib.blake2b(key=key, digest_size=_CODE_BYTES)
        self._num_frames = 0

    def next_code(self, payload: bytes) -> bytes:
        """Return the code of the next frame."""
        code = self._keyed.copy()
        code.update(_COUNTER.pack(self._num_frames))
        code.update(payload)
        self._num_frames += 1
        return code.digest()


class SocketChannel(Generic[Out, In]):
    """An end of an authenticated connection, made by `dial` or `listening`.

    All messages posted within a turn of the event loop are sent at its end, with one system call.
    All messages that came with one read are received without waiting.
    """

    def __init__(self, stream: ByteStream, keys: tuple[bytes, bytes], kind: Any) -> None:
        self._stream = stream
        self._sending, self._receiving = map(_Authenticator, keys)
        self._loop = asyncio.get_running_loop()
        self._unsent = bytearray()
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(kind)

    def post(self, message: Out) -> None:
        payload = self._encoder.encode(message)
        if len(payload) > MAX_FRAME_BYTES:
            raise UsageError(f"a message has at most {MAX_FRAME_BYTES} bytes, got {len(payload)}")
        transport = self._stream.transport
        backlog_bytes = transport.get_write_buffer_size() + len(self._unsent)
        if transport.is_closing() or backlog_bytes > MAX_BACKLOG_BYTES:
            self.close()
            raise ChannelClosedError("the other end is gone, or too slow")
        if not self._unsent:
            self._loop.call_soon(self._send)
        self._unsent += _LENGTH.pack(len(payload)) + self._sending.next_code(payload) + payload

    def _send(self) -> None:
        if self._unsent and not self._stream.transport.is_closing():
            self._stream.transport.write(bytes(self._unsent))
        self._unsent.clear()

    async def receive(self) -> In:
        try:
            while (payload := self._next_payload()) is None:
                await self._stream.more()
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

    def _next_payload(self) -> bytes | None:
        """Remove and return the payload of the next frame; None if it has not come in full."""
        unread = self._stream.unread
        if len(unread) < _HEAD_BYTES:
            return None
        (size_bytes,) = _LENGTH.unpack_from(unread)
        if size_bytes > MAX_FRAME_BYTES:
            raise ChannelClosedError(
                f"protocol error: a frame of {size_bytes} bytes, more than {MAX_FRAME_BYTES}"
            )
        end = _HEAD_BYTES + size_bytes
        if len(unread) < end:
            return None
        code, payload = unread[_LENGTH.size : _HEAD_BYTES], bytes(unread[_HEAD_BYTES:end])
        del unread[:end]
        if not hmac.compare_digest(code, self._receiving.next_code(payload)):
            raise ChannelClosedError("protocol error: a frame's authentication code is wrong")
        return payload

    def close(self) -> None:
        self._send()
        self._stream.close()


async def dial(address: str, key: bytes, receives: Any) -> SocketChannel[Any, Any]:
    """Connect to an address.

    Args:
        address: Address of a process that listens.
        key: The cluster's key.
        receives: Union of the message types of the other end.

    Raises:
        ChannelClosedError: No process listens there, or it has another key.
        UsageError: The address is malformed or the key is too short.
    """
    _check_key(key)
    try:
        async with asyncio.timeout(HANDSHAKE_S):
            stream = await connected(address, ByteStream)
            try:
                keys = await _prove_as_client(stream, key)
                stream.notice_silence()
            except BaseException:
                stream.close()
                raise
    except (OSError, EOFError) as error:
        raise ChannelClosedError(f"{address} cannot be reached: {error}") from error
    return SocketChannel(stream, keys, receives)


@asynccontextmanager
async def listening(
    address: str,
    key: bytes,
    receives: Any,
    serve: Callable[[SocketChannel[Any, Any]], Awaitable[None]],
) -> AsyncIterator[str]:
    """Accept connections and run `serve` for each; yield the address, with the port it has got.

    Raises:
        ClusterError: The address is in use or not available.
        UsageError: The address is malformed or the key is too short.
    """
    _check_key(key)
    tasks: set[asyncio.Task[None]] = set()
    unauthenticated = asyncio.Semaphore(MAX_UNAUTHENTICATED)

    async def served(stream: ByteStream) -> None:
        try:
            async with unauthenticated, asyncio.timeout(HANDSHAKE_S):
                keys = await _prove_as_server(stream, key)
            stream.notice_silence()
            with closing(SocketChannel[Any, Any](stream, keys, receives)) as channel:
                await serve(channel)
        except (OSError, EOFError, ChannelClosedError):
            return
        finally:
            stream.close()

    def accepted(stream: ByteStream) -> None:
        if unauthenticated.locked():
            stream.close()
            return
        task = asyncio.get_running_loop().create_task(served(stream))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server, bound = await start_server(address, lambda: ByteStream(accepted))
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


async def _prove_as_client(stream: ByteStream, key: bytes) -> tuple[bytes, bytes]:
    ours = os.urandom(_NONCE_BYTES)
    stream.transport.write(ours)
    theirs = await stream.exactly(_NONCE_BYTES)
    proof = await stream.exactly(_PROOF_BYTES)
    if not hmac.compare_digest(proof, _derived(key, b"server", ours + theirs)):
        raise ChannelClosedError("the other end does not have this cluster's key")
    stream.transport.write(_derived(key, b"client", ours + theirs))
    return _derived(key, b"up", ours + theirs), _derived(key, b"down", ours + theirs)


async def _prove_as_server(stream: ByteStream, key: bytes) -> tuple[bytes, bytes]:
    theirs = await stream.exactly(_NONCE_BYTES)
    ours = os.urandom(_NONCE_BYTES)
    stream.transport.write(ours + _derived(key, b"server", theirs + ours))
    proof = await stream.exactly(_PROOF_BYTES)
    if not hmac.compare_digest(proof, _derived(key, b"client", theirs + ours)):
        raise ChannelClosedError("the other end does not have this cluster's key")
    return _derived(key, b"down", theirs + ours), _derived(key, b"up", theirs + ours)


def _derived(key: bytes, label: bytes, nonces: bytes) -> bytes:
    return hmac.digest(key, label + b"\0" + nonces, "sha256")
