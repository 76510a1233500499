"""Clients of a gateway with a fake backend: in process, and over a socket of this machine."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx

from experiments.campaigns.gateway.fakes import FakeBackend
from sllmreal.gateway.app import create_app
from sllmreal.gateway.server import serve
from sllmreal.gateway.settings import GatewaySettings, Limits, Timeouts

OPEN = GatewaySettings(port=0)


def in_process(backend: FakeBackend, settings: GatewaySettings = OPEN) -> httpx.AsyncClient:
    """Return a client without a socket. Its requests raise the application's exceptions."""
    transport = httpx.ASGITransport(create_app(backend, settings))
    return httpx.AsyncClient(transport=transport, base_url="http://gateway")


@asynccontextmanager
async def serving(
    backend: FakeBackend, settings: GatewaySettings = OPEN
) -> AsyncIterator[tuple[str, int]]:
    """Serve on a socket until the context ends; yield the address."""
    stop = asyncio.Event()
    address: asyncio.Future[tuple[str, int]] = asyncio.get_running_loop().create_future()

    def ready(host: str, port: int) -> None:
        address.set_result((host, port))

    task = asyncio.create_task(serve(backend, settings, stop=stop, ready=ready))
    try:
        yield await address
    finally:
        stop.set()
        await task


def with_limits(**limits: object) -> GatewaySettings:
    """Return settings without keys, with some limits replaced."""
    return replace(OPEN, limits=replace(Limits(), **limits))  # type: ignore[arg-type]


def with_timeouts(**timeouts: float) -> GatewaySettings:
    """Return settings without keys, with some time-outs replaced."""
    return replace(OPEN, timeouts=replace(Timeouts(), **timeouts))


def keys_file(directory: Path, **entries: dict[str, object]) -> Path:
    """Write a keys file; the key of each entry is its name. Return its path."""
    content = [
        {"sha256": hashlib.sha256(name.encode()).hexdigest(), **entry}
        for name, entry in entries.items()
    ]
    path = directory / "keys.json"
    path.write_text(json.dumps(content))
    path.chmod(0o600)
    return path


def bearer(key: str) -> dict[str, str]:
    """Return the headers that carry a key."""
    return {"authorization": f"Bearer {key}"}


def events(text: str) -> list[dict[str, object]]:
    """Return the objects of an event stream, which must end in [DONE]."""
    parts = text.split("\n\n")
    assert parts.pop() == ""
    assert parts.pop() == "data: [DONE]"
    return [json.loads(part.removeprefix("data: ")) for part in parts]
