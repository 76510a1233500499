"""A gateway's connections to the data planes of all workers.

A message to a worker without a connection is dropped: the owners of streams send it again if it
needs an answer.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from sllmreal.streams import messages
from sllmreal.transport.errors import ChannelClosedError
from sllmreal.worker.data_plane import FromInstance, ToInstance

_LOG = logging.getLogger(__name__)


class WorkerChannel(Protocol):
    """The gateway's end of a connection to a data plane."""

    def post(self, message: ToInstance) -> None: ...

    async def receive(self) -> FromInstance: ...

    def close(self) -> None: ...


class HostListener(Protocol):
    """Receives the messages of engine hosts: the router."""

    def receive(self, instance_id: str, request_id: str, message: messages.ToOwner) -> None: ...

    def lose_instance(self, instance_id: str) -> None: ...


Dial = Callable[[str], Awaitable[WorkerChannel]]


class WorkerConnections:
    """A connection to each worker of `set_workers`, made again whenever it is lost.

    Args:
        dial: Connects to an address. Raises ChannelClosedError.
        redial_s: Seconds between two attempts to connect.
    """

    def __init__(self, dial: Dial, redial_s: float = 0.1) -> None:
        self.listener: HostListener | None = None
        self._dial = dial
        self._redial_s = redial_s
        self._channels: dict[str, WorkerChannel] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._online: dict[str, messages.HostOnline] = {}

    def send(self, address: str, instance_id: str, message: messages.ToHost) -> None:
        """Send a message to an instance's host; drop it without a connection to its worker."""
        channel = self._channels.get(address)
        if channel is None:
            _LOG.debug(
                "%s dropped: no connection to the worker",
                type(message).__name__,
                extra={"instance": instance_id, "peer": address},
            )
            return
        try:
            channel.post(ToInstance(instance_id, message))
        except ChannelClosedError:
            self._channels.pop(address, None)

    def online(self, instance_id: str) -> messages.HostOnline | None:
        """Return the HostOnline of an instance's host; None if it has not been received."""
        return self._online.get(instance_id)

    def set_workers(self, addresses: tuple[str, ...]) -> None:
        """Connect to these workers, and close the connections to all others."""
        for address in self._tasks.keys() - set(addresses):
            self._tasks.pop(address).cancel()
        for address in addresses:
            if address not in self._tasks:
                self._tasks[address] = asyncio.create_task(self._stay_connected(address))

    async def close(self) -> None:
        """Close all connections."""
        tasks = list(self._tasks.values())
        self.set_workers(())
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _stay_connected(self, address: str) -> None:
        ids = {"peer": address}
        reachable = True
        while True:
            try:
                channel = await self._dial(address)
                reachable = True
                _LOG.info("connected to a worker", extra=ids)
                await self._receive_from(address, channel)
            except ChannelClosedError as error:
                if reachable:  # log the first failure of a series
                    _LOG.warning("no connection to a worker: %s", error, extra=ids)
                reachable = False
                await asyncio.sleep(self._redial_s)

    async def _receive_from(self, address: str, channel: WorkerChannel) -> None:
        self._channels[address] = channel
        instances: set[str] = set()  # a worker sends HostOnline of each instance at first
        try:
            while True:
                envelope = await channel.receive()
                instances.add(envelope.instance_id)
                self._handle(envelope)
        finally:
            self._channels.pop(address, None)
            channel.close()
            for instance_id in instances:
                self._online.pop(instance_id, None)

    def _handle(self, envelope: FromInstance) -> None:
        assert self.listener is not None, "the listener is set before connections are made"
        instance_id, message = envelope.instance_id, envelope.message
        match message:
            case messages.HostOnline():
                self._online[instance_id] = message
            case messages.EngineFailed(reason):
                _LOG.debug("instance ended: %s", reason, extra={"instance": instance_id})
                self._online.pop(instance_id, None)
                self.listener.lose_instance(instance_id)
            case messages.HostStatus():
                pass
            case _:
                self.listener.receive(instance_id, message.request_id, message)
