"""Reading a request's body within limits of size and time."""

import asyncio
from collections.abc import AsyncIterator

from starlette.requests import Request

from sllmreal.gateway.errors import ApiError, ClientLeftError
from sllmreal.gateway.settings import GatewaySettings

_LINGER_S = 1.0
_LINGER_BYTES = 16 << 20


async def read_body(request: Request, settings: GatewaySettings) -> bytes:
    """Return the body.

    Raises ApiError: 413 if it is longer than `body_bytes`, 408 if it takes longer than `body_s`.
    """
    max_bytes, body_s = settings.limits.body_bytes, settings.timeouts.body_s
    body = bytearray()
    try:
        async with asyncio.timeout(body_s):
            if _declared_bytes(request) > max_bytes:
                raise await _too_long(request, max_bytes)
            async for part in _parts(request):
                body += part
                if len(body) > max_bytes:
                    raise await _too_long(request, max_bytes)
    except TimeoutError:
        message = f"The request's body did not arrive within {body_s:g} s; send the request again."
        raise ApiError(408, message, closes=True) from None
    return bytes(body)


def _declared_bytes(request: Request) -> int:
    declared = request.headers.get("content-length", "0")
    return int(declared) if declared.isdecimal() and len(declared) < 20 else 0


async def _parts(request: Request) -> AsyncIterator[bytes]:
    more = True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientLeftError("the client disconnected while it sent the request's body")
        yield message.get("body", b"")
        more = message.get("more_body", False)


async def _too_long(request: Request, max_bytes: int) -> ApiError:
    """Read on for a moment, then return the error to raise.

    If a connection is closed with data unread, it is reset, and the client gets no response.
    """
    num_bytes = 0
    try:
        async with asyncio.timeout(_LINGER_S):
            async for part in _parts(request):
                num_bytes += len(part)
                if num_bytes > _LINGER_BYTES:
                    break
    except TimeoutError:
        pass
    message = f"The request's body is longer than the limit of {max_bytes} bytes; shorten it."
    return ApiError(413, message, code="request_too_large", closes=True)
