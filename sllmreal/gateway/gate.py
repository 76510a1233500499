"""Middleware that authenticates and admits each request before it is routed.

It stands before routing, so that it also guards routes that are added later. Only /health and
/ping are open. HEAD is answered as GET without the body.
"""

import asyncio
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sllmreal.gateway.admission import Admission
from sllmreal.gateway.errors import ApiError
from sllmreal.gateway.keys import Keyring

OPEN_PATHS = ("/health", "/ping")  # /ping is that of Amazon SageMaker


class Gate:
    """ASGI middleware. Puts the request's Principal into its state."""

    def __init__(
        self,
        app: ASGIApp,
        keyring: Keyring,
        admission: Admission,
        draining: Callable[[], bool],
        on_error: Callable[[ApiError], None],
    ) -> None:
        self._app = app
        self._keyring = keyring
        self._admission = admission
        self._draining = draining
        self._on_error = on_error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope, send = {**scope, "method": "GET"}, _without_body(send)
        if scope["type"] == "lifespan" or scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        try:
            await self._enter(scope, receive, send)
        except ApiError as error:  # of the gate; the application answers its own
            self._on_error(error)
            await error.response()(scope, receive, send)

    async def _enter(self, scope: Scope, receive: Receive, send: Send) -> None:
        principal = self._keyring.authenticate(Headers(scope=scope).get("authorization"))
        scope.setdefault("state", {})["principal"] = principal
        if self._draining():
            raise _shutting_down()
        if scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        with self._admission.request(principal):
            await self._until_cancelled(scope, receive, send)

    async def _until_cancelled(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application. Raises ApiError (503) if the gateway's end cancels it unanswered."""
        started = False

        async def send_noted(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        except asyncio.CancelledError:
            if started or not self._draining():
                raise
            raise _shutting_down() from None


def _without_body(send: Send) -> Send:
    async def send_headers(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return send_headers


def _shutting_down() -> ApiError:
    message = "This gateway is shutting down; try again later."
    return ApiError(
        status=503,
        message=message,
        kind="server_error",
        code="draining",
        param=None,
        retry_after_s=1.0,
        closes=True,
    )
