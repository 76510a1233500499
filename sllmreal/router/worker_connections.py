"""A gateway's connections to the data planes of all workers.

A message to a worker that cannot be reached now is dropped: owners of streams repeat what matters.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from sllmreal.streams import messages as wire
from sllmreal.transport.errors import ChannelClosedError
from sllmreal.worker.data_plane import FromInstance, ToInstance


class WorkerChannel(Protocol):
    """The gateway's end of a connection to a data plane."""

    def post(self, message: ToInstance) -> None: ...

    async def receive(self) -> FromInstance: ...

    def close(self) -> None: ...


class HostListener(Protocol):
    """Hears what engines say: the desk."""

    def received(self, instance_id: str, request_id: str, message: wire.ToOwner) -> None: ...

    def gone(self, instance_id: str) -> None: ...


Dial = Callable[[str], Awaitable[WorkerChannel]]


class WorkerConnections:
    """Connected to exactly the workers that `keep` names.

    Args:
        dial: Connects to an address. Raises ChannelClosedError.
        redial_s: Pause before a connection that was lost is tried again.
    """

    def __init__(self, dial: Dial, redial_s: float = 0.1) -> None:
        self.listener: HostListener | None = None
        self._dial = dial
        self._redial_s = redial_s
        self._channels: dict[str, WorkerChannel] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._online: dict[str, wire.HostOnline] = {}

    def send(self, address: str, instance_id: str, message: wire.ToHost) -> None:
        channel = self._channels.get(address)
        if channel is not None:
            try:
                channel.post(ToInstance(instance_id, message))
            except ChannelClosedError:
                self._channels.pop(address, None)

    def online(self, instance_id: str) -> wire.HostOnline | None:
        return self._online.get(instance_id)

    def keep(self, addresses: tuple[str, ...]) -> None:
        for address in [one for one in self._tasks if one not in addresses]:
            self._tasks.pop(address).cancel()
        for address in addresses:
            if address not in self._tasks:
                self._tasks[address] = asyncio.create_task(self._stay_connected(address))

    async def close(self) -> None:
        """Close all connections."""
        tasks = list(self._tasks.values())
        self.keep(())
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _stay_connected(self, address: str) -> None:
        while True:
            try:
                await self._listen(address, await self._dial(address))
            except ChannelClosedError:
                await asyncio.sleep(self._redial_s)

    async def _listen(self, address: str, channel: WorkerChannel) -> None:
        self._channels[address] = channel
        here: set[str] = set()  # a worker says at each connection which instances live
        try:
            while True:
                envelope = await channel.receive()
                here.add(envelope.instance_id)
                self._hear(envelope)
        finally:
            self._channels.pop(address, None)
            channel.close()
            for instance_id in here:
                self._online.pop(instance_id, None)

    def _hear(self, envelope: FromInstance) -> None:
        assert self.listener is not None, "a plane has a listener before it has connections"
        instance_id, message = envelope.instance_id, envelope.message
        match message:
            case wire.HostOnline():
                self._online[instance_id] = message
            case wire.EngineFailed():
                self._online.pop(instance_id, None)
                self.listener.gone(instance_id)
            case wire.HostStatus():
                pass
            case _:
                self.listener.received(instance_id, message.request_id, message)
