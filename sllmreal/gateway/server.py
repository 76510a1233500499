"""Serving the gateway on a socket, inside the event loop of the cluster's driver."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import uvicorn

from sllmcore.errors import UsageError
from sllmreal.gateway.app import create_app
from sllmreal.gateway.backend import Backend
from sllmreal.gateway.connection import GatewayConnection
from sllmreal.gateway.service import GatewayService
from sllmreal.gateway.settings import GatewaySettings

# What waits longer in the kernel than its client would is better not taken at all.
_BACKLOG = 128
# In one turn of the event loop. Every stream waits for the turn's end: under a flood of connections
# those wait in the kernel, and what runs goes on.
_ACCEPTS = 16
_MAX_HEADER_BYTES = 32 << 10
# What the kernel holds for a client that does not read; by itself it would grow to megabytes.
_SEND_BUFFER_BYTES = 128 << 10


class _Server(uvicorn.Server):
    """uvicorn's server, which leaves signals to the process that it is a part of."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or []:
            listener.listen(_BACKLOG)  # asyncio has one number for this and for accepts in a turn

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(
    backend: Backend,
    settings: GatewaySettings,
    *,
    stop: asyncio.Event,
    ready: Callable[[str, int], None] | None = None,
) -> None:
    """Serve until `stop` is set or this is cancelled, then let running requests end for `drain_s`.

    `ready` is told the address when connections are accepted. Raises UsageError if the address
    cannot be had or the keys file is wrong.
    """
    app = create_app(backend, settings)
    service: GatewayService = app.state.service
    with _listening(settings) as listener:
        server = _Server(_config(app, settings))
        serving = asyncio.create_task(server.serve([listener]))
        stopping = asyncio.create_task(stop.wait())
        if ready is not None:
            host, port = listener.getsockname()[:2]
            ready(host, port)
        try:
            await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            service.draining = True
            server.should_exit = True
            stopping.cancel()
            await serving


def _config(app: object, settings: GatewaySettings) -> uvicorn.Config:
    timeouts = settings.timeouts
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        loop="none",
        http=partial(GatewayConnection, settings),  # type: ignore[arg-type]
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=_ACCEPTS,
        timeout_keep_alive=timeouts.idle_s,  # type: ignore[arg-type]
        timeout_graceful_shutdown=timeouts.drain_s,  # type: ignore[arg-type]
        h11_max_incomplete_event_size=_MAX_HEADER_BYTES,
    )


@contextmanager
def _listening(settings: GatewaySettings) -> Iterator[socket.socket]:
    """A bound socket. Its connections inherit the size of its send buffer."""
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise UsageError(f"{settings.host!r} is no address: {error}") from error
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        try:
            listener.bind(address)
            listener.listen(_BACKLOG)
        except OSError as error:
            where = f"{settings.host}:{settings.port}"
            raise UsageError(f"cannot listen on {where}: {error.strerror}") from error
        listener.setblocking(False)
        yield listener
