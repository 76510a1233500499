"""Heartbeats: each end of a link sends messages at intervals and notices if the other does not."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from sllmreal.transport.channel import Channel
from sllmreal.transport.errors import ChannelClosedError


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """Times of a link.

    Args:
        heartbeat_s: Interval of heartbeats.
        silence_s: Time without a message after which the connection is closed.
        redial_s: Pause before the next attempt to connect.
    """

    heartbeat_s: float = 0.5
    silence_s: float = 3.0
    redial_s: float = 0.1


class Heartbeat:
    """Sends on a connection, and closes it when the other end is silent for too long.

    Silence is counted in this end's own beats, so that a process that was suspended for a while
    does not take its own pause for the other end's silence.

    Args:
        settings: Times.
        channel: The connection.
        send: Posts the messages of a heartbeat on the channel.
    """

    def __init__(
        self, settings: LinkSettings, channel: Channel[Any, Any], send: Callable[[], None]
    ) -> None:
        self._settings = settings
        self._channel = channel
        self._send = send
        self._num_silent = 0  # beats since the last message of the other end

    def received(self) -> None:
        """Note that a message has come from the other end."""
        self._num_silent = 0

    @asynccontextmanager
    async def beating(self) -> AsyncIterator[None]:
        """Send heartbeats until the context ends."""
        task = asyncio.create_task(self._beat())
        try:
            yield
        finally:
            task.cancel()

    async def _beat(self) -> None:
        settings = self._settings
        with suppress(ChannelClosedError):  # the reader of the channel gets the error, too
            while self._num_silent * settings.heartbeat_s < settings.silence_s:
                self._send()
                await asyncio.sleep(settings.heartbeat_s)
                self._num_silent += 1
            self._channel.close()
