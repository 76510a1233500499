"""What the pool's daemon and its clients say to each other: typed messages in bounded frames.

A frame is  u32 length | MessagePack.  The pool's descriptor travels beside the Welcome message.
"""

import array
import socket
import struct
from typing import TypeVar

import msgspec

from sllmreal.loader.errors import DaemonError

MAX_FRAME_BYTES = 16 << 20  # the chunk table of a model of a terabyte is a tenth of that
_LENGTH = struct.Struct("<I")
T = TypeVar("T")


class Hello(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """The client's first message."""

    version: int


class Welcome(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """The pool's shape; its descriptor comes with this."""

    chunk_bytes: int
    num_chunks: int


class Range(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    partition: int
    begin_bytes: int
    end_bytes: int


class Load(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """Make a checkpoint under the daemon's root resident and lease it to this connection.

    `ranges` are the bytes wanted, None for all: a partial load.
    """

    model: str
    ranges: tuple[Range, ...] | None = None


class Place(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """A chunk of a partition and the pool's chunk that holds it."""

    partition: int
    number: int
    chunk: int


class Assigned(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """Where a load's chunks are or will be; `resident` of them hold their bytes already."""

    lease: int
    identity: str
    places: tuple[Place, ...]
    resident: tuple[int, ...]


class Landed(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """More of a load's places, by their number in Assigned, hold verified bytes."""

    places: tuple[int, ...]


class Done(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """The command was carried out; `num_bytes` were loaded, or freed."""

    num_bytes: int = 0


class Failed(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """The command was not carried out. `kind` is the name of the error's class."""

    kind: str
    reason: str


class Release(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """The client has no tensor of this lease any more."""

    lease: int


class Evict(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """Free the last `num_bytes` of a checkpoint, None for all of it."""

    identity: str
    num_bytes: int | None = None


class Status(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """Ask what the pool holds."""


class Report(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """What the pool holds, by checkpoint identity, and the models last loaded under it."""

    chunk_bytes: int
    num_chunks: int
    num_free: int
    huge_pages: bool
    resident_bytes: dict[str, int]
    models: dict[str, str]


Command = Load | Release | Evict | Status
Answer = Assigned | Landed | Done | Failed | Report


def send(connection: socket.socket, message: msgspec.Struct, fd: int | None = None) -> None:
    """Send one message, with a descriptor beside it if given. Raises DaemonError."""
    raw = msgspec.msgpack.encode(message)
    assert len(raw) <= MAX_FRAME_BYTES, "messages are bounded by what they describe"
    ancillary = []
    if fd is not None:
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
    try:
        connection.sendmsg([_LENGTH.pack(len(raw))], ancillary)
        connection.sendall(raw)
    except OSError as error:
        raise DaemonError(f"the other end is gone: {error}") from error


def receive(connection: socket.socket, kind: type[T]) -> T:
    """The next message, of `kind`. Raises DaemonError on anything else, or at the end."""
    return _decoded(connection, _receive_exactly(connection, _LENGTH.size), kind)


def receive_with_fd(connection: socket.socket, kind: type[T]) -> tuple[T, int]:
    """The same, and the descriptor that must come with it; the caller closes it."""
    try:
        raw, fds, _, _ = socket.recv_fds(connection, _LENGTH.size, 1)
    except OSError as error:
        raise DaemonError(f"the daemon is gone: {error}") from error
    if len(fds) != 1 or not raw:
        raise DaemonError("the daemon sent no descriptor of its pool")
    rest = _receive_exactly(connection, _LENGTH.size - len(raw))
    return _decoded(connection, raw + rest, kind), fds[0]


def _decoded(connection: socket.socket, prefix: bytes, kind: type[T]) -> T:
    (size_bytes,) = _LENGTH.unpack(prefix)
    if size_bytes > MAX_FRAME_BYTES:
        raise DaemonError(f"a frame of {size_bytes} bytes; at most {MAX_FRAME_BYTES} are allowed")
    raw = _receive_exactly(connection, size_bytes)
    try:
        return msgspec.msgpack.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DaemonError(f"a malformed message: {error}") from error


def _receive_exactly(connection: socket.socket, size_bytes: int) -> bytes:
    parts = bytearray()
    while len(parts) < size_bytes:
        try:
            part = connection.recv(min(size_bytes - len(parts), 1 << 20))
        except OSError as error:
            raise DaemonError(f"the other end is gone: {error}") from error
        if not part:
            raise DaemonError("the other end closed the connection")
        parts += part
    return bytes(parts)
