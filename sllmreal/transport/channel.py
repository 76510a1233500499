"""Channels of typed messages: the interface, and a pair within a process."""

import asyncio
from typing import Any, Generic, Protocol, TypeVar

from sllmreal.transport.errors import ChannelClosedError

Out = TypeVar("Out", contravariant=True)
In = TypeVar("In", covariant=True)


class Channel(Protocol[Out, In]):
    """An end of a connection that delivers each message once, in order, until it is closed."""

    def post(self, message: Out) -> None:
        """Send without waiting. Raises ChannelClosedError, also if the other end is too slow."""
        ...

    async def receive(self) -> In:
        """Return the next message. Raises ChannelClosedError if the channel is closed."""
        ...

    def close(self) -> None:
        """Close both directions; may be called twice."""
        ...


class MemoryChannel(Generic[Out, In]):
    """An end of a pair of channels within a process."""

    def __init__(self) -> None:
        self._incoming: asyncio.Queue[Any] = asyncio.Queue()
        self._other: MemoryChannel[Any, Any] | None = None
        self._closed = False

    def post(self, message: Out) -> None:
        if self._closed or self._other is None or self._other._closed:
            raise ChannelClosedError("the other end has closed")
        self._other._incoming.put_nowait(message)

    async def receive(self) -> In:
        message = None if self._closed else await self._incoming.get()
        if message is None:
            self._closed = True
            raise ChannelClosedError("the other end has closed")
        received: In = message
        return received

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._incoming.put_nowait(None)
            if self._other is not None:
                self._other._incoming.put_nowait(None)


def memory_pair() -> tuple[MemoryChannel[Any, Any], MemoryChannel[Any, Any]]:
    """Return both ends of a connection within this process."""
    one: MemoryChannel[Any, Any] = MemoryChannel()
    other: MemoryChannel[Any, Any] = MemoryChannel()
    one._other, other._other = other, one
    return one, other
