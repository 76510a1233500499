"""Authenticated frames between two hosts: nothing is decoded, and little allocated, for a stranger.

    hello    source to destination   "SLM1" | ticket 16 | nonce 16
    answer   destination to source   nonce 16
    frame    kind u8 | 3 zero bytes | length u32 | number u64 | MAC 16 | payload | MAC 16

Integers are little-endian; a payload is one MessagePack message of the kind. The first MAC is of
the 16 bytes before it, the second of those and the payload; both are HMAC-SHA256 cut to 128 bits
(RFC 2104 section 5). The keys, one per direction, are HMAC-SHA256 of the move's key over the
direction and both nonces, so that no frame is good on another link, and frames are numbered, so
that none is good twice. Frames are not encrypted: they belong on a network that is private.
"""

import hashlib
import hmac
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

import msgspec

from sllmreal.migration.errors import AuthenticationError, FrameError
from sllmreal.migration.messages import (
    Ack,
    Alive,
    Final,
    LogDelta,
    RejectMigration,
    StateDelta,
    ToDestination,
    ToSource,
)

MAGIC = b"SLM1"
TICKET_BYTES = 16
NONCE_BYTES = 16
HELLO_BYTES = len(MAGIC) + TICKET_BYTES + NONCE_BYTES
MAC_BYTES = 16
_HEADER = struct.Struct("<B3xIQ")
HEADER_BYTES = _HEADER.size + MAC_BYTES
FRAME_BYTES = HEADER_BYTES + MAC_BYTES  # beside the payload

Framed = ToDestination | ToSource | Alive
Read = Callable[[memoryview], None]


@dataclass(frozen=True, slots=True)
class _Kind:
    message: type[Framed]
    max_bytes: int


_KINDS = {
    1: _Kind(LogDelta, 5 << 20),
    2: _Kind(StateDelta, 40 << 20),  # a token's cache fits, of any model we know
    3: _Kind(Final, 64),
    4: _Kind(Ack, 64),
    5: _Kind(RejectMigration, 8 << 10),
    6: _Kind(Alive, 16),
}
_NUMBERS = {kind.message: number for number, kind in _KINDS.items()}


@dataclass(frozen=True, slots=True)
class Keys:
    """What a link's frames are authenticated with, by direction."""

    from_source: bytes
    from_destination: bytes

    @classmethod
    def of(cls, key: bytes, source_nonce: bytes, destination_nonce: bytes) -> "Keys":
        nonces = source_nonce + destination_nonce
        return cls(
            hmac.digest(key, b"from source" + nonces, "sha256"),
            hmac.digest(key, b"from destination" + nonces, "sha256"),
        )


class Sealer:
    """Makes the frames of one direction of one link."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._number = 0

    def seal(self, message: Framed) -> tuple[bytes, bytes, bytes]:
        """Header, payload and MAC. Raises FrameError for a message that is too long."""
        number = _NUMBERS[type(message)]
        payload = msgspec.msgpack.encode(message)
        if len(payload) > _KINDS[number].max_bytes:
            raise FrameError(f"a {type(message).__name__} of {len(payload)} bytes")
        header = _HEADER.pack(number, len(payload), self._number)
        self._number += 1
        return header + _mac(self._key, header), payload, _mac(self._key, header, payload)


class Opener:
    """Reads the frames of one direction of one link: messages of `accepted`, or Alive."""

    def __init__(self, key: bytes, accepted: object) -> None:
        self._key = key
        self._number = 0
        self._decoders: dict[int, msgspec.msgpack.Decoder[Framed]] = {
            _NUMBERS[message]: msgspec.msgpack.Decoder(message)
            for message in (*get_args(accepted), Alive)
        }

    def open(self, read: Read) -> Framed:
        """The next message. `read` fills a buffer or raises.

        Raises AuthenticationError for a frame that was not sent here, or was before, and FrameError
        for one that should not have been.
        """
        head = bytearray(HEADER_BYTES)
        read(memoryview(head))
        header = bytes(head[: _HEADER.size])
        if not hmac.compare_digest(_mac(self._key, header), bytes(head[_HEADER.size :])):
            raise AuthenticationError("a frame whose header is not of this link")
        kind, size_bytes, number = _HEADER.unpack(header)
        if number != self._number:
            raise AuthenticationError(f"frame {number} where {self._number} is next")
        decoder = self._decoders.get(kind)
        if decoder is None:
            raise FrameError(f"a frame of kind {kind} is not for this end")
        if size_bytes > _KINDS[kind].max_bytes:
            raise FrameError(f"{size_bytes} bytes of {_KINDS[kind].message.__name__}")
        self._number += 1
        body = bytearray(size_bytes + MAC_BYTES)
        read(memoryview(body))
        payload = memoryview(body)[:size_bytes]
        if not hmac.compare_digest(_mac(self._key, header, payload), bytes(body[size_bytes:])):
            raise AuthenticationError("a frame whose payload was altered")
        try:
            return decoder.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise FrameError(f"a malformed {_KINDS[kind].message.__name__}: {error}") from error


def ticket_of(key: bytes) -> bytes:
    """The name of a move's link. It may be said aloud, for it proves nothing."""
    return hashlib.sha256(b"ticket" + key).digest()[:TICKET_BYTES]


def pack_hello(link_id: bytes, nonce: bytes) -> bytes:
    assert len(link_id) == TICKET_BYTES and len(nonce) == NONCE_BYTES
    return MAGIC + link_id + nonce


@dataclass(frozen=True, slots=True)
class LinkHello:
    link_id: bytes
    nonce: bytes


def unpack_hello(raw: bytes) -> LinkHello:
    """Raises FrameError."""
    if len(raw) != HELLO_BYTES or not raw.startswith(MAGIC):
        raise FrameError("not the beginning of a migration")
    ticket_end = len(MAGIC) + TICKET_BYTES
    return LinkHello(raw[len(MAGIC) : ticket_end], raw[ticket_end:])


def _mac(key: bytes, header: bytes, payload: bytes | memoryview = b"") -> bytes:
    if not payload:
        return hmac.digest(key, header, "sha256")[:MAC_BYTES]
    whole = hmac.new(key, header, "sha256")
    whole.update(payload)
    return whole.digest()[:MAC_BYTES]
