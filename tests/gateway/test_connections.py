"""Clients that disconnect, are slow, send too much or nothing, over real sockets."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx
import pytest

from experiments.campaigns.gateway import tiny
from experiments.campaigns.gateway.clients import in_process, serving, with_limits, with_timeouts
from experiments.campaigns.gateway.fakes import FakeBackend, Step, endless
from sllmreal.engine.protocol import FinishReason
from sllmreal.gateway.backend import FailedError, Generated, GenerationRequest

pytestmark = pytest.mark.asyncio
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def connected(address: tuple[str, int], receive_bytes: int = 0) -> AsyncIterator[Connection]:
    """Connect without an HTTP client; `receive_bytes` is the size of the receive buffer."""
    plain = socket.socket()
    if receive_bytes:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    plain.setblocking(False)
    await asyncio.get_running_loop().sock_connect(plain, address)
    reader, writer = await asyncio.open_connection(sock=plain, limit=1 << 10)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


def post(path: str = "/v1/completions", **body: object) -> bytes:
    content = json.dumps({"model": "tiny/chat", "prompt": "Hello", "max_tokens": 500} | body)
    head = f"POST {path} HTTP/1.1\r\nhost: gateway\r\ncontent-length: {len(content)}\r\n\r\n"
    return (head + content).encode()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_disconnects_frees_its_slots(stream: bool) -> None:
    """Fails if the gateway does not watch for the disconnection while it waits for the cluster."""
    backend = FakeBackend(endless)
    async with serving(backend) as address:
        async with connected(address) as (_, writer):
            writer.write(post(stream=stream, n=3))
            await backend.until(lambda fake: len(fake.running) == 3)
        await backend.until(lambda fake: not fake.running)


def flood(request: GenerationRequest) -> Iterable[Step]:
    """Generate tokens without end, as fast as they are read."""
    token = tiny.tokenizer().encode("a", special=False)[0]
    while True:
        yield Generated((token,) * 8)


async def test_a_slow_reader_is_disconnected_and_other_clients_are_served() -> None:
    """Fails if the generation waits for its client, or the buffer for the client is unbounded."""
    backend = FakeBackend(flood)
    limits = with_limits(stream_buffer_bytes=20_000).limits
    settings = replace(with_timeouts(write_s=600.0), limits=limits)
    async with serving(backend, settings) as address:  # noqa: SIM117
        async with connected(address, receive_bytes=4_096) as (reader, writer):
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(post(stream=True))
            await backend.until(lambda fake: bool(fake.running))
            await asyncio.wait_for(backend.until(lambda fake: not fake.running), 15)
            backend.script = FakeBackend().script
            async with httpx.AsyncClient(
                base_url=f"http://{address[0]}:{address[1]}", timeout=None
            ) as other:
                body = {"model": "tiny/chat", "prompt": "Hello"}
                answer = await other.post("/v1/completions", json=body)

            assert answer.status_code == 200
            writer.transport.resume_reading()  # type: ignore[attr-defined]
            with pytest.raises(ConnectionResetError):
                await reader.read()


async def test_a_client_that_reads_nothing_is_disconnected_at_the_deadline() -> None:
    """Fails without the deadline, because the buffer is large enough for the whole response."""
    never = asyncio.Event()

    def script(request: GenerationRequest) -> Iterable[Step]:
        token = tiny.tokenizer().encode("a", special=False)[0]
        for _ in range(12_000):
            yield Generated((token,))
        yield never

    backend = FakeBackend(script)
    limits = with_limits(stream_buffer_bytes=1 << 26).limits
    settings = replace(with_timeouts(write_s=0.3), limits=limits)
    async with (
        serving(backend, settings) as address,
        connected(address, receive_bytes=4_096) as (_, writer),
    ):
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(post(stream=True, max_tokens=500))
        await backend.until(lambda fake: bool(fake.running))
        await asyncio.wait_for(backend.until(lambda fake: not fake.running), 10)


async def test_a_stream_without_tokens_is_kept_alive_by_comments() -> None:
    released = asyncio.Event()
    backend = FakeBackend(lambda _: [released, Generated((40,), FinishReason.LENGTH)])
    async with (
        serving(backend, with_timeouts(heartbeat_s=0.05)) as address,
        connected(address) as (reader, writer),
    ):
        writer.write(post(stream=True))
        await reader.readuntil(b": waiting\n\n")
        await reader.readuntil(b": waiting\n\n")
        released.set()
        end = await reader.readuntil(b"data: [DONE]\n\n")

    assert b'"finish_reason":"length"' in end


@pytest.mark.parametrize("sent", [b"", b"GET /health HTT", b"GET /health HTTP/1.1\r\nhost: x\r\n"])
async def test_a_connection_without_a_request_is_closed(sent: bytes) -> None:
    """Fails with uvicorn's own protocol, which waits without a limit."""
    async with (
        serving(FakeBackend(), with_timeouts(headers_s=0.2)) as address,
        connected(address) as (reader, writer),
    ):
        writer.write(sent)
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), 5)


async def test_headers_that_arrive_slowly_do_not_extend_their_deadline() -> None:
    async with (
        serving(FakeBackend(), with_timeouts(headers_s=0.3)) as address,
        connected(address) as (reader, writer),
    ):
        ended = asyncio.create_task(reader.read())
        writer.write(b"GET /health HTTP/1.1\r\n")
        for _ in range(100):
            if ended.done():
                break
            writer.write(b"x: y\r\n")
            await asyncio.wait({ended}, timeout=0.05)
        assert ended.done()
        await asyncio.gather(ended, return_exceptions=True)


async def test_the_rest_of_a_refused_body_has_a_deadline() -> None:
    """Fails if only headers have a deadline, because each byte restarts uvicorn's own timer."""
    async with (
        serving(FakeBackend(), with_timeouts(headers_s=0.3)) as address,
        connected(address) as (reader, writer),
    ):
        writer.write(post("/nowhere")[:-50])
        await reader.readuntil(b"}}")
        ended = asyncio.create_task(reader.read())
        for _ in range(40):
            if ended.done():
                break
            writer.write(b"x")
            await asyncio.wait({ended}, timeout=0.05)
        assert ended.done()
        await asyncio.gather(ended, return_exceptions=True)


async def test_an_idle_connection_is_kept_for_further_requests_until_its_deadline() -> None:
    async with (
        serving(FakeBackend(), with_timeouts(idle_s=0.2)) as address,
        connected(address) as (reader, writer),
    ):
        for _ in range(3):
            writer.write(b"GET /health HTTP/1.1\r\nhost: gateway\r\n\r\n")
            assert b"200 OK" in await reader.readuntil(b'"reasons":[]}')
        assert await asyncio.wait_for(reader.read(), 5) == b""


async def test_a_body_that_does_not_arrive_is_answered_with_408() -> None:
    async with (
        serving(FakeBackend(), with_timeouts(body_s=0.2)) as address,
        connected(address) as (reader, writer),
    ):
        writer.write(post()[:-5])
        answer = await asyncio.wait_for(reader.read(), 5)

    assert answer.startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_client_with_a_body_that_is_too_long_receives_413(chunked: bool) -> None:
    """Fails if the connection is closed at once: the client sees a reset and no response."""

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b"x" * (1 << 16)

    async with (
        serving(FakeBackend(), with_limits(body_bytes=100_000)) as (host, port),
        httpx.AsyncClient(base_url=f"http://{host}:{port}", timeout=None) as client,
    ):
        content = parts() if chunked else b"x" * (4 << 20)
        response = await client.post("/v1/completions", content=content)

    assert response.status_code == 413
    assert response.json()["error"]["code"] == "request_too_large"


async def test_connections_above_the_limit_are_closed() -> None:
    async with (
        serving(FakeBackend(), with_limits(connections=2)) as address,
        connected(address) as (first, writer),
        connected(address),
    ):
        async with connected(address) as (third, _):
            assert await asyncio.wait_for(third.read(), 5) == b""
        writer.write(b"GET /health HTTP/1.1\r\nhost: gateway\r\n\r\n")
        assert b"200 OK" in await first.readuntil(b"\r\n")


async def test_one_failed_choice_ends_the_others_and_the_request() -> None:

    def script(request: GenerationRequest) -> Iterable[Step]:
        return [FailedError("lost")] if request.request_id.endswith("-1") else endless(request)

    backend = FakeBackend(script)
    async with in_process(backend) as client:
        body = {"model": "tiny/chat", "prompt": "Hello", "n": 3}
        response = await client.post("/v1/completions", json=body)

    assert response.status_code == 500
    assert not backend.running
