"""Clients on bare sockets: some read the response, some disconnect early, some do not read."""

import asyncio
import json
import socket
import time
from dataclasses import dataclass

from experiments.benchmarks.gateway.fixed_backend import FLOOD, STEADY

Address = tuple[str, int]
_FLOOD_TOKENS = 30_000
_SMALL_BUFFER_BYTES = 4 << 10
_HEAD_BYTES, _TAIL_BYTES = 400, 64  # kept of a response, for its status and its end


@dataclass(frozen=True, slots=True)
class ClientOutcome:
    """The outcome of one request. Times count from the time when it was due."""

    status: int  # 0: no response
    complete: bool
    first_token_s: float | None
    whole_s: float
    retry_after: bool


def _request(model: str, max_tokens: int) -> bytes:
    body = {"model": model, "prompt": [1, 2, 3, 4], "max_tokens": max_tokens, "stream": True}
    content = json.dumps(body).encode()
    head = "POST /v1/completions HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n"
    return f"{head}content-length: {len(content)}\r\n\r\n".encode() + content


class _StreamedRequest(asyncio.Protocol):
    """A streamed request. Without a client library, so that it costs less than the gateway."""

    def __init__(self, request: bytes, due_s: float) -> None:
        self._request = request
        self._due_s = due_s
        self._head = b""
        self._tail = b""
        self._first_token_s: float | None = None
        self.outcome: asyncio.Future[ClientOutcome] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if len(self._head) < _HEAD_BYTES:
            self._head += data[:_HEAD_BYTES]
        if self._first_token_s is None and b'"token_ids":[' in data:
            self._first_token_s = time.monotonic() - self._due_s
        self._tail = (self._tail + data)[-_TAIL_BYTES:]

    def connection_lost(self, exc: Exception | None) -> None:
        status = int(self._head[9:12] or b"0")
        retry_after = b"\r\nretry-after: " in self._head.lower()
        whole_s = time.monotonic() - self._due_s
        complete = b"data: [DONE]" in self._tail
        if not self.outcome.done():
            self.outcome.set_result(
                ClientOutcome(
                    status=status,
                    complete=complete,
                    first_token_s=self._first_token_s,
                    whole_s=whole_s,
                    retry_after=retry_after,
                )
            )


async def send_request(address: Address, max_tokens: int, due_s: float) -> ClientOutcome:
    """Send one streamed request on a new connection; return its outcome."""
    request = _request(STEADY, max_tokens)
    loop = asyncio.get_running_loop()
    try:
        _, sent = await loop.create_connection(lambda: _StreamedRequest(request, due_s), *address)
    except OSError:
        return ClientOutcome(
            status=0,
            complete=False,
            first_token_s=None,
            whole_s=time.monotonic() - due_s,
            retry_after=False,
        )
    return await sent.outcome


async def send_and_disconnect(address: Address, max_tokens: int, after_s: float) -> None:
    """Send a request and disconnect after `after_s` seconds."""
    try:
        _, writer = await asyncio.open_connection(*address)
    except OSError:
        return
    writer.write(_request(STEADY, max_tokens))
    await asyncio.sleep(after_s)
    writer.transport.abort()


async def send_and_read_nothing(address: Address) -> None:
    """Send requests for long responses, one after another, without reading, until cancelled."""
    while True:
        plain = socket.socket()
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BUFFER_BYTES)
        plain.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(plain, address)
            await asyncio.get_running_loop().sock_sendall(plain, _request(FLOOD, _FLOOD_TOKENS))
            await _reset(plain)
        except OSError:
            await asyncio.sleep(0.1)
        finally:
            plain.close()


async def _reset(plain: socket.socket) -> None:
    """Wait until the gateway resets the connection, without reading."""
    while plain.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:  # noqa: ASYNC110 - no event
        await asyncio.sleep(0.2)


async def open_idle(address: Address, count: int) -> list[asyncio.StreamWriter]:
    """Open connections that send nothing."""
    writers: list[asyncio.StreamWriter] = []
    for first in range(0, count, 200):
        batch = range(first, min(first + 200, count))
        opened = await asyncio.gather(*(asyncio.open_connection(*address) for _ in batch))
        writers.extend(writer for _, writer in opened)
    return writers
