"""Authenticated frames between two hosts. Nothing is decoded before its sender is authenticated.

    hello    source to destination   "SLM1" | link id 16 | nonce 16
    answer   destination to source   nonce 16
    frame    kind u8 | 3 zero bytes | length u32 | number u64 | MAC 16 | payload | MAC 16

Integers are little-endian; a payload is one MessagePack message of the kind. The first MAC covers
the 16 bytes before it, the second those and the payload; both are HMAC-SHA256 cut to 128 bits
(RFC 2104 section 5). The keys, one per direction, are HMAC-SHA256 of the migration's key over the
direction and both nonces, so that a frame is valid on one link only. Frames are numbered, so that a
frame is valid once only. Frames are not encrypted: use them on a private network.
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
LINK_ID_BYTES = 16
NONCE_BYTES = 16
HELLO_BYTES = len(MAGIC) + LINK_ID_BYTES + NONCE_BYTES
MAC_BYTES = 16
_HEADER = struct.Struct("<B3xIQ")
HEADER_BYTES = _HEADER.size + MAC_BYTES
FRAME_BYTES = HEADER_BYTES + MAC_BYTES  # besides the payload

Framed = ToDestination | ToSource | Alive
Read = Callable[[memoryview], None]


@dataclass(frozen=True, slots=True)
class _Kind:
    message: type[Framed]
    max_bytes: int


_KINDS = {
    1: _Kind(LogDelta, 5 << 20),
    2: _Kind(StateDelta, 40 << 20),  # more than the cache of a token of any known model
    3: _Kind(Final, 64),
    4: _Kind(Ack, 64),
    5: _Kind(RejectMigration, 8 << 10),
    6: _Kind(Alive, 16),
}
_NUMBERS = {kind.message: number for number, kind in _KINDS.items()}


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of a link's frames, by direction."""

    from_source: bytes
    from_destination: bytes

    @classmethod
    def of(cls, key: bytes, source_nonce: bytes, destination_nonce: bytes) -> "Keys":
        """Derive the keys from the migration's key and the nonces of both ends."""
        nonces = source_nonce + destination_nonce
        return cls(
            hmac.digest(key, b"from source" + nonces, "sha256"),
            hmac.digest(key, b"from destination" + nonces, "sha256"),
        )


class Sealer:
    """An encoder of the frames of one direction of one link."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._number = 0

    def seal(self, message: Framed) -> tuple[bytes, bytes, bytes]:
        """Return header, payload and MAC of the next frame.

        Raises:
            FrameError: The message is too long for its kind.
        """
        number = _NUMBERS[type(message)]
        payload = msgspec.msgpack.encode(message)
        if len(payload) > _KINDS[number].max_bytes:
            raise FrameError(
                f"a {type(message).__name__} has {len(payload)} bytes, "
                f"at most {_KINDS[number].max_bytes} are allowed"
            )
        header = _HEADER.pack(number, len(payload), self._number)
        self._number += 1
        return header + _mac(self._key, header), payload, _mac(self._key, header, payload)


class Opener:
    """A decoder of the frames of one direction of one link.

    Args:
        accepted: A union of message types; `Alive` is accepted as well.
    """

    def __init__(self, key: bytes, accepted: object) -> None:
        self._key = key
        self._number = 0
        self._decoders: dict[int, msgspec.msgpack.Decoder[Framed]] = {
            _NUMBERS[message]: msgspec.msgpack.Decoder(message)
            for message in (*get_args(accepted), Alive)
        }

    def open(self, read: Read) -> Framed:
        """Read and return the next message.

        Args:
            read: Fills a buffer, or raises.

        Raises:
            AuthenticationError: The frame is not of this link, or was received before.
            FrameError: The message is not accepted here, too long, or malformed.
        """
        head = bytearray(HEADER_BYTES)
        read(memoryview(head))
        header = bytes(head[: _HEADER.size])
        if not hmac.compare_digest(_mac(self._key, header), bytes(head[_HEADER.size :])):
            raise AuthenticationError("the MAC of a frame header is wrong")
        kind, size_bytes, number = _HEADER.unpack(header)
        if number != self._number:
            raise AuthenticationError(f"got frame {number}, frame {self._number} is next")
        decoder = self._decoders.get(kind)
        if decoder is None:
            raise FrameError(f"frames of kind {kind} are not accepted by this end")
        if size_bytes > _KINDS[kind].max_bytes:
            raise FrameError(
                f"a {_KINDS[kind].message.__name__} has {size_bytes} bytes, "
                f"at most {_KINDS[kind].max_bytes} are allowed"
            )
        self._number += 1
        body = bytearray(size_bytes + MAC_BYTES)
        read(memoryview(body))
        payload = memoryview(body)[:size_bytes]
        if not hmac.compare_digest(_mac(self._key, header, payload), bytes(body[size_bytes:])):
            raise AuthenticationError("the MAC of a frame payload is wrong")
        try:
            return decoder.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise FrameError(f"a malformed {_KINDS[kind].message.__name__}: {error}") from error


def link_id_of(key: bytes) -> bytes:
    """Return the id of a migration's link. It is no secret: it proves nothing."""
    return hashlib.sha256(b"ticket" + key).digest()[:LINK_ID_BYTES]


def pack_hello(link_id: bytes, nonce: bytes) -> bytes:
    """Return the first bytes of a link, from the source."""
    assert len(link_id) == LINK_ID_BYTES and len(nonce) == NONCE_BYTES
    return MAGIC + link_id + nonce


@dataclass(frozen=True, slots=True)
class LinkHello:
    """The first bytes of a link, decoded."""

    link_id: bytes
    nonce: bytes


def unpack_hello(raw: bytes) -> LinkHello:
    """Decode the first bytes of a link.

    Raises:
        FrameError: They are not those of a migration.
    """
    if len(raw) != HELLO_BYTES or not raw.startswith(MAGIC):
        raise FrameError("the connection does not begin like a migration")
    link_id_end = len(MAGIC) + LINK_ID_BYTES
    return LinkHello(raw[len(MAGIC) : link_id_end], raw[link_id_end:])


def _mac(key: bytes, header: bytes, payload: bytes | memoryview = b"") -> bytes:
    if not payload:
        return hmac.digest(key, header, "sha256")[:MAC_BYTES]
    whole = hmac.new(key, header, "sha256")
    whole.update(payload)
    return whole.digest()[:MAC_BYTES]
