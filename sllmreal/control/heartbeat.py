"""The heartbeat of a link: each end says something now and then, and hears that the other does."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from sllmreal.transport.channel import Channel
from sllmreal.transport.errors import ChannelClosedError


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """How a link notices that the other end is gone, and how fast it tries again."""

    heartbeat_s: float = 0.5
    silence_s: float = 3.0
    redial_s: float = 0.1


class Heartbeat:
    """Speaks on a connection, and closes it when the other end is silent for too long.

    Silence is counted in our own beats, so that a process that was stopped for a while does not
    take that for the other's silence.

    Args:
        say: Posts what there is to say.
    """

    def __init__(
        self, settings: LinkSettings, channel: Channel[Any, Any], say: Callable[[], None]
    ) -> None:
        self._settings = settings
        self._channel = channel
        self._say = say
        self._num_unanswered = 0  # beats since the other end was heard

    def heard(self) -> None:
        """The other end has said something."""
        self._num_unanswered = 0

    @asynccontextmanager
    async def beating(self) -> AsyncIterator[None]:
        """Until the context ends."""
        task = asyncio.create_task(self._beat())
        try:
            yield
        finally:
            task.cancel()

    async def _beat(self) -> None:
        settings = self._settings
        with suppress(ChannelClosedError):  # whoever receives will notice
            while self._num_unanswered * settings.heartbeat_s < settings.silence_s:
                self._say()
                await asyncio.sleep(settings.heartbeat_s)
                self._num_unanswered += 1
            self._channel.close()
