"""Reading a request's body, no further than it may be long and no longer than it may take."""

import asyncio
from collections.abc import AsyncIterator

from starlette.requests import Request

from sllmreal.gateway.errors import ApiError, ClientLeftError
from sllmreal.gateway.settings import GatewaySettings

_LINGER_S = 1.0
_LINGER_BYTES = 16 << 20


async def read_body(request: Request, settings: GatewaySettings) -> bytes:
    """The body. Raises ApiError: 413 when it is too long, 408 when it is too slow."""
    most = settings.limits.body_bytes
    body = bytearray()
    try:
        async with asyncio.timeout(settings.timeouts.body_s):
            if _declared_bytes(request) > most:
                raise await _too_long(request, most)
            async for part in _parts(request):
                body += part
                if len(body) > most:
                    raise await _too_long(request, most)
    except TimeoutError:
        raise ApiError(408, "The request's body took too long.", closes=True) from None
    return bytes(body)


def _declared_bytes(request: Request) -> int:
    declared = request.headers.get("content-length", "0")
    return int(declared) if declared.isdecimal() and len(declared) < 20 else 0


async def _parts(request: Request) -> AsyncIterator[bytes]:
    more = True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientLeftError("the client left while it sent the body")
        yield message.get("body", b"")
        more = message.get("more_body", False)


async def _too_long(request: Request, most: int) -> ApiError:
    """The error to raise, after reading on for a moment: a connection that is closed with data
    unread is reset, and the client never sees why."""
    num_bytes = 0
    try:
        async with asyncio.timeout(_LINGER_S):
            async for part in _parts(request):
                num_bytes += len(part)
                if num_bytes > _LINGER_BYTES:
                    break
    except TimeoutError:
        pass
    message = f"The request's body may have {most} bytes."
    return ApiError(413, message, code="request_too_large", closes=True)
