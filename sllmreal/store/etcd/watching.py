"""A watch that survives the failure of a node.

It continues at another node from the revision after the last event, so that no event is lost or
repeated. A silent node is asked for its progress; if it does not answer it counts as dead.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from aetcd import rpc  # type: ignore[import-untyped]

from sllmreal.store.errors import CompactedError, StoreUnavailableError
from sllmreal.store.etcd.endpoints import METADATA, Endpoint, Endpoints
from sllmreal.store.etcd.failures import Failure, failure_of
from sllmreal.store.etcd.messages import end_key, event, first_key
from sllmreal.store.values import Event

QUIET_S = 1.0  # after this silence the node is asked for its progress


class _StreamEndedError(Exception):
    """The node has ended the stream, or is silent."""


async def follow(
    endpoints: Endpoints, prefix: str, from_revision: int
) -> AsyncGenerator[Event, None]:
    """See `Store.watch`."""
    loop = asyncio.get_running_loop()
    failing_since_s: float | None = None
    revision = from_revision
    while True:
        endpoint = endpoints.current
        try:
            async with aclosing(_responses(endpoints, endpoint, prefix, revision)) as responses:
                async for response in responses:
                    failing_since_s = None
                    for message in response.events:
                        if message.kv.mod_revision >= revision:
                            yield event(message)
                    if response.events:
                        revision = max(revision, response.events[-1].kv.mod_revision + 1)
        except (rpc.AioRpcError, _StreamEndedError) as error:
            refused = isinstance(error, rpc.AioRpcError) and failure_of(error) is Failure.REFUSED
            failing_since_s = loop.time() if failing_since_s is None else failing_since_s
            if refused or loop.time() - failing_since_s > endpoints.patience.total_s:
                raise StoreUnavailableError(f"etcd refuses the watch: {error}") from error
        endpoints.leave(endpoint)
        await asyncio.sleep(endpoints.patience.pause_s)


async def _responses(
    endpoints: Endpoints, endpoint: Endpoint, prefix: str, revision: int
) -> AsyncGenerator[Any, None]:
    """Yield the responses of one node; raise _StreamEndedError or AioRpcError when they end."""
    requests = _Requests()
    requests.send(_create_request(prefix, revision))
    call = endpoint.watch.Watch(requests, metadata=METADATA)
    try:
        while True:
            response = await _next_response(call, requests, endpoints.patience.attempt_s)
            if response.canceled:
                if response.compact_revision:
                    raise CompactedError(revision, response.compact_revision + 1)
                raise _StreamEndedError(response.cancel_reason)
            yield response
    finally:
        requests.end()
        call.cancel()


class _Requests:
    """The requests to a node. gRPC reads them until `end`, even after the call is over."""

    def __init__(self) -> None:
        self._waiting: asyncio.Queue[Any] = asyncio.Queue()

    def send(self, request: Any) -> None:
        self._waiting.put_nowait(request)

    def end(self) -> None:
        self._waiting.put_nowait(None)

    def __aiter__(self) -> "_Requests":
        return self

    async def __anext__(self) -> Any:
        request = await self._waiting.get()
        if request is None:
            raise StopAsyncIteration
        return request


def _create_request(prefix: str, revision: int) -> Any:
    """Return the request for a watch, from one revision earlier.

    etcd before 3.4.36 and 3.5.18 drops a deletion *at* the revision that it compacts to, yet
    accepts a watch from there.
    """
    return rpc.WatchRequest(
        create_request=rpc.WatchCreateRequest(
            key=first_key(prefix),
            range_end=end_key(prefix),
            start_revision=max(1, revision - 1),
        )
    )


async def _next_response(call: Any, requests: _Requests, answer_s: float) -> Any:
    read = asyncio.ensure_future(call.read())
    try:
        done, _ = await asyncio.wait({read}, timeout=QUIET_S)
        if not done:
            requests.send(rpc.WatchRequest(progress_request=rpc.WatchProgressRequest()))
            done, _ = await asyncio.wait({read}, timeout=answer_s)
        if not done:
            raise _StreamEndedError("the node is silent")
        if read.cancelled():  # the channel was closed
            raise _StreamEndedError("the connection was closed")
        response = read.result()
    finally:
        read.cancel()
    if not isinstance(response, rpc.WatchResponse):
        raise _StreamEndedError("the node has ended the stream")
    return response
