"""The gateway's HTTP server, in the event loop of the cluster's driver."""

import asyncio
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import uvicorn

from sllmcore.errors import UsageError
from sllmreal.gateway.app import create_app
from sllmreal.gateway.backend import Backend
from sllmreal.gateway.connection import GatewayConnection
from sllmreal.gateway.overload_log import OverloadLog
from sllmreal.gateway.service import GatewayService
from sllmreal.gateway.settings import GatewaySettings

_LOG = logging.getLogger(__name__)
# Connections that the kernel queues. With more, clients would time out before they are accepted.
_BACKLOG = 128
# Connections accepted in one turn of the event loop, during which all streams wait. Under a flood,
# connections wait in the kernel and running streams go on.
_ACCEPTS = 16
_MAX_HEADER_BYTES = 32 << 10
# Bytes that the kernel buffers for a client that does not read; its default grows to megabytes.
_SEND_BUFFER_BYTES = 128 << 10


class _Server(uvicorn.Server):
    """uvicorn's server without its signal handlers, which belong to the process."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or []:
            listener.listen(_BACKLOG)  # asyncio has set it to _ACCEPTS

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
    """Serve until `stop` is set or this is cancelled, then wait up to `drain_s` for open requests.

    `ready` is called with the address when connections are accepted. Raises UsageError if the
    address cannot be used or the keys file is invalid.
    """
    app = create_app(backend, settings)
    service: GatewayService = app.state.service
    with _listening(settings) as listener:
        server = _Server(_config(app, settings))
        serving = asyncio.create_task(server.serve([listener]))
        stopping = asyncio.create_task(stop.wait())
        host, port = listener.getsockname()[:2]
        _LOG.info("gateway listens on %s port %d", host, port)
        if ready is not None:
            ready(host, port)
        try:
            await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            num_open = service.admission.num_requests
            _LOG.info(
                "gateway stops: %d requests may end within %g s",
                num_open,
                settings.timeouts.drain_s,
            )
            service.draining = True
            server.should_exit = True
            stopping.cancel()
            await serving


def _config(app: object, settings: GatewaySettings) -> uvicorn.Config:
    timeouts = settings.timeouts
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        loop="none",
        http=partial(GatewayConnection, settings, OverloadLog()),  # type: ignore[arg-type]
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
    """Bind a socket. Its connections inherit the size of its send buffer."""
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise UsageError(f"cannot resolve host {settings.host!r}: {error}") from error
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
