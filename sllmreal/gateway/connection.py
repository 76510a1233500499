"""A client's connection: uvicorn's, with a deadline for everything that a client may leave undone.

uvicorn waits without a limit for a first request, for the rest of a request's headers, for the rest
of a body that was answered unread, and for the reader of a connection that is being closed.
"""

import asyncio
import socket
import struct

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from sllmreal.gateway.overload_log import OverloadLog
from sllmreal.gateway.settings import GatewaySettings

_RESET = struct.pack("ii", 1, 0)  # linger for 0 s
_KEEPALIVE_S = 20  # seconds between probes; a client that vanished is detected after three


class GatewayConnection(H11Protocol):
    """A connection with the deadlines and the limit of connections of `settings`."""

    def __init__(
        self,
        settings: GatewaySettings,
        overload: OverloadLog,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, object],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        # uvicorn copies this into the state of each request's scope.
        state = {**app_state, "abort": self._abort}
        super().__init__(config, server_state, state, _loop)
        self._settings = settings
        self._overload = overload
        self._headers_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        limit = self._settings.limits.connections
        if len(self.connections) > limit:
            self._overload.refused(f"{limit} connections are open, the limit")
            transport.abort()
            return
        _enable_keepalive(transport)
        self._await_headers()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        answered = self.conn.our_state is h11.DONE  # while the rest of the body still arrives
        if answered or self.conn.their_state is h11.IDLE:
            self._await_headers()
        else:
            self._cancel_headers_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_headers_timer()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self.loop.call_later(self._settings.timeouts.write_s, self._abort)

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self.loop.call_later(self._settings.timeouts.write_s, self._abort)

    def _await_headers(self) -> None:
        if self._headers_timer is None and not self.transport.is_closing():
            wait_s = self._settings.timeouts.headers_s
            self._headers_timer = self.loop.call_later(wait_s, self._abort)

    def _cancel_headers_timer(self) -> None:
        if self._headers_timer is not None:
            self._headers_timer.cancel()
            self._headers_timer = None

    def _abort(self) -> None:
        # By a reset, so that the kernel frees at once what it buffers for this client.
        connection: socket.socket | None = self.transport.get_extra_info("socket")
        if connection is not None and connection.fileno() >= 0:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()


def _enable_keepalive(transport: asyncio.Transport) -> None:
    connection: socket.socket | None = transport.get_extra_info("socket")
    if connection is None or connection.family == socket.AF_UNIX:
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option in ("TCP_KEEPIDLE", "TCP_KEEPINTVL"):
        if hasattr(socket, option):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), _KEEPALIVE_S)
