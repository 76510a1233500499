"""Tokens in messages: four bytes each, little-endian."""

import sys
from array import array
from collections.abc import Iterable

from sllmreal.engine.errors import BadTokenError

TOKEN_BYTES = 4
_SWAPPED = sys.byteorder != "little"


def pack_tokens(tokens: Iterable[int]) -> bytes:
    """Return the bytes of tokens. Raises BadTokenError for a number that is no token."""
    try:
        packed = array("I", tokens)
    except (OverflowError, TypeError) as error:
        raise BadTokenError(f"not a token: {error}") from error
    assert packed.itemsize == TOKEN_BYTES
    if _SWAPPED:
        packed.byteswap()
    return packed.tobytes()


def unpack_tokens(raw: bytes | memoryview) -> tuple[int, ...]:
    """Return the tokens of bytes. Raises BadTokenError for a length that is no multiple of four."""
    if len(raw) % TOKEN_BYTES:
        raise BadTokenError(
            f"{len(raw)} bytes are no whole number of tokens of {TOKEN_BYTES} bytes"
        )
    packed = array("I")
    packed.frombytes(raw)
    if _SWAPPED:
        packed.byteswap()
    return tuple(packed)
