"""Messages between a checkpoint store and its clients, and their frames on a Unix socket.

A frame is  u32 length | MessagePack.  The pool's descriptor is sent with the StoreWelcome message.
A connection serves one load, with a lease that lasts until the connection is closed, or any
number of other commands.
"""

import array
import os
import socket
import struct
from typing import TypeVar

import msgspec

from sllmreal.loader.errors import CheckpointStoreError

PROTOCOL_VERSION = 2
MAX_FRAME_BYTES = 16 << 20  # ten times the chunk table of a model of a terabyte
_LENGTH = struct.Struct("<I")
T = TypeVar("T")


class StoreHello(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """The first message of a client."""

    version: int


class StoreWelcome(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """The answer to StoreHello, sent with a read-only descriptor of the pool."""

    pid: int
    chunk_bytes: int


class WantedRange(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """Bytes [begin_bytes, end_bytes) of a partition."""

    partition: int
    begin_bytes: int
    end_bytes: int


class LoadCheckpoint(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """A request to load a checkpoint and, with `leased`, to lease it to this connection.

    `path` is absolute. `ranges` are the wanted bytes, None for all.
    """

    path: str
    name: str
    leased: bool = True
    ranges: tuple[WantedRange, ...] | None = None


class LoadProgress(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """The progress of a load; sent several times a second."""

    done_bytes: int
    total_bytes: int


class ChunkPlace(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """A chunk of a partition, and the pool chunk that holds it."""

    partition: int
    number: int
    chunk: int


class CheckpointLoaded(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """The answer to LoadCheckpoint: all wanted chunks are resident and verified."""

    identity: str
    size_bytes: int
    read_bytes: int  # the rest was resident
    places: tuple[ChunkPlace, ...]


class EvictCheckpoint(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """A request to free a checkpoint, given by name, path or first digits of its identity."""

    name: str


class CheckpointEvicted(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """The answer to EvictCheckpoint, with the number of bytes freed."""

    num_bytes: int


class GetStoreStatus(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """A request for the store's status."""


class StoredCheckpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A resident checkpoint and the processes that hold a lease of it."""

    name: str
    path: str
    identity: str
    size_bytes: int
    resident_bytes: int
    used_by: tuple[int, ...]


class StoreStatus(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """The answer to GetStoreStatus."""

    pid: int
    chunk_bytes: int
    num_chunks: int
    num_free: int
    huge_pages: bool
    checkpoints: tuple[StoredCheckpoint, ...]


class CommandFailed(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """The answer to a failed command. `kind` is the name of the error's class."""

    kind: str
    reason: str


StoreCommand = LoadCheckpoint | EvictCheckpoint | GetStoreStatus
StoreAnswer = LoadProgress | CheckpointLoaded | CheckpointEvicted | StoreStatus | CommandFailed


def send(connection: socket.socket, message: msgspec.Struct, fd: int | None = None) -> None:
    """Send a message, with a descriptor if given. Raises CheckpointStoreError."""
    raw = msgspec.msgpack.encode(message)
    assert len(raw) <= MAX_FRAME_BYTES, "messages are bounded by what they describe"
    ancillary = []
    if fd is not None:
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
    try:
        connection.sendmsg([_LENGTH.pack(len(raw))], ancillary)
        connection.sendall(raw)
    except OSError as error:
        raise CheckpointStoreError(f"the other process closed the connection: {error}") from error


def receive(connection: socket.socket, kind: type[T]) -> T:
    """Receive a message of `kind`. Raises CheckpointStoreError for any other, and at the end."""
    return _decoded(connection, _receive_exactly(connection, _LENGTH.size), kind)


def receive_with_fd(connection: socket.socket, kind: type[T]) -> tuple[T, int | None]:
    """Receive a message of `kind` and its descriptor, if it has one; the caller closes it.

    Raises CheckpointStoreError for any other message, and at the end.
    """
    try:
        raw, fds, _, _ = socket.recv_fds(connection, _LENGTH.size, 1)
    except OSError as error:
        raise CheckpointStoreError(f"the store closed the connection: {error}") from error
    fd = fds[0] if fds else None
    try:
        prefix = raw + _receive_exactly(connection, _LENGTH.size - len(raw))
        return _decoded(connection, prefix, kind), fd
    except BaseException:
        if fd is not None:
            os.close(fd)
        raise


def _decoded(connection: socket.socket, prefix: bytes, kind: type[T]) -> T:
    (size_bytes,) = _LENGTH.unpack(prefix)
    if size_bytes > MAX_FRAME_BYTES:
        raise CheckpointStoreError(
            f"a frame must have at most {MAX_FRAME_BYTES} bytes, got {size_bytes}"
        )
    raw = _receive_exactly(connection, size_bytes)
    try:
        return msgspec.msgpack.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CheckpointStoreError(f"a message is malformed: {error}") from error


def _receive_exactly(connection: socket.socket, size_bytes: int) -> bytes:
    received = bytearray()
    while len(received) < size_bytes:
        try:
            part = connection.recv(min(size_bytes - len(received), 1 << 20))
        except OSError as error:
            raise CheckpointStoreError(
                f"the other process closed the connection: {error}"
            ) from error
        if not part:
            raise CheckpointStoreError("the other process closed the connection")
        received += part
    return bytes(received)
