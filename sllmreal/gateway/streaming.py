"""A generation as server-sent events.

The HTTP status is sent with the first token, so that an error before it has its own status. It is
sent after `heartbeat_s` at the latest: then comments keep the connection alive during a cold start,
and a later error is an event.
"""

import asyncio
import logging
from collections.abc import Callable

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from sllmcore.errors import ClusterError
from sllmreal.gateway.disconnects import while_connected
from sllmreal.gateway.errors import ApiError, ClientLeftError, SlowReaderError, of_cluster
from sllmreal.gateway.generation import Generation
from sllmreal.gateway.response_outbox import ResponseOutbox
from sllmreal.gateway.responses import Delta, ResponseFormat
from sllmreal.gateway.settings import GatewaySettings

_LOG = logging.getLogger(__name__)
_HEARTBEAT = b": waiting\n\n"
_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",  # else nginx collects events before it passes them on
}


class EventStream(Response):
    """Runs a generation while its client reads the events."""

    def __init__(
        self, generation: Generation, response_format: ResponseFormat, settings: GatewaySettings
    ) -> None:
        super().__init__(headers={**_HEADERS, "x-request-id": response_format.heading.id})
        del self.headers["content-length"]
        self._generation = generation
        self._format = response_format
        self._settings = settings
        self._outbox = ResponseOutbox(settings.limits.stream_buffer_bytes)
        self._opened: set[int] = set()
        self._num_output = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        write_s = self._settings.timeouts.write_s

        async def send_in_time(message: Message) -> None:
            try:
                async with asyncio.timeout(write_s):
                    await send(message)
            except TimeoutError:
                raise SlowReaderError(f"the client has read nothing for {write_s:g} s") from None

        ids = {"request": self._format.heading.id, "model": self._format.heading.model}
        try:
            await while_connected(receive, self._produce_and_write(scope, receive, send_in_time))
        except ClientLeftError as error:
            _LOG.info("%s", error, extra=ids)
        except SlowReaderError as error:
            _LOG.warning("connection reset: %s", error, extra=ids)
            # An orderly close would wait for the reader, without a deadline.
            abort: Callable[[], None] | None = scope.get("state", {}).get("abort")
            if abort is not None:
                abort()

    async def _produce_and_write(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._produce())
                group.create_task(self._write(scope, receive, send))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _produce(self) -> None:
        try:
            usage = await self._generation.run(self._emit)
        except ApiError as error:
            heading = self._format.heading
            ids = {"request": heading.id, "model": heading.model}
            _LOG.info("request refused with status %d: %s", error.status, error.message, extra=ids)
            self._outbox.end(error)
        except ClusterError as error:
            self._outbox.end(of_cluster(error))
        else:
            self._outbox.put(self._format.closing(usage))
            self._outbox.end()

    def _emit(self, delta: Delta) -> None:
        if delta.index not in self._opened:
            self._opened.add(delta.index)
            self._outbox.put(self._format.opening(delta.index))
        self._num_output += len(delta.tokens)
        self._outbox.put(self._format.piece(delta, self._generation.usage(self._num_output)))

    async def _write(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False
        while True:
            try:
                data = await self._next()
            except ApiError as error:
                if not started:
                    await error.response()(scope, receive, send)
                    return
                data = b"data: " + error.body() + b"\n\n"
                await send({"type": "http.response.body", "body": data, "more_body": False})
                return
            if not started:
                started = True
                await send(
                    {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
                )
            await send({"type": "http.response.body", "body": data, "more_body": bool(data)})
            if not data:
                return

    async def _next(self) -> bytes:
        try:
            async with asyncio.timeout(self._settings.timeouts.heartbeat_s):
                return await self._outbox.take()
        except TimeoutError:
            return _HEARTBEAT
