"""A worker's data plane: a relay of messages between gateways' connections and engine hosts.

A message about a request goes to the connection that last sent a message about that request to the
instance, so that a gateway that reconnects has its streams again with its first message. The relay
keeps no output: hosts keep it, resend it when polled, and drop the streams of a gateway that is
gone when their lease ends.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import assert_never

import msgspec

from sllmreal.streams import messages as wire
from sllmreal.transport.channel import Channel, MemoryChannel, memory_pair
from sllmreal.transport.errors import ChannelClosedError
from sllmreal.transport.socket_channel import listening


class ToInstance(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A message from a gateway to the engine host of an instance."""

    instance_id: str
    message: wire.ToHost


class FromInstance(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A message from the engine host of an instance to a gateway.

    Besides the messages of its own requests, each gateway gets `HostOnline` of each live instance
    and `EngineFailed` when an instance is stopped or crashes. `EngineFailed` is also the answer to
    a message for an unknown instance.
    """

    instance_id: str
    message: wire.ToOwner


GatewayChannel = Channel[FromInstance, ToInstance]
Post = Callable[[wire.ToHost], None]


class DataPlane:
    """The relay of one worker. `address` is where gateways connect."""

    def __init__(self, address: str = "memory") -> None:
        self.address = address
        self._hosts: dict[str, Post] = {}
        self._online: dict[str, wire.HostOnline] = {}
        self._gateways: list[GatewayChannel] = []
        self._routes: dict[tuple[str, str], GatewayChannel] = {}  # by instance and request
        self._tasks: set[asyncio.Task[None]] = set()

    def attach(self, instance_id: str, post: Post) -> None:
        """Route messages for an instance to `post`, which must not block."""
        self._hosts[instance_id] = post

    def detach(self, instance_id: str, reason: str) -> None:
        """Forget an instance that is gone, and report that to all gateways."""
        del self._hosts[instance_id]
        self._online.pop(instance_id, None)
        self._routes = {at: to for at, to in self._routes.items() if at[0] != instance_id}
        self._broadcast(FromInstance(instance_id, wire.EngineFailed(reason)))

    def deliver(self, instance_id: str, message: wire.ToOwner) -> None:
        """Route a message of a host. It is dropped if no gateway is connected for it."""
        if instance_id not in self._hosts:
            return
        match message:
            case wire.HostOnline():
                self._online[instance_id] = message
                self._broadcast(FromInstance(instance_id, message))
            case wire.EngineFailed() | wire.HostStatus():
                pass  # the worker reports the end of an instance itself, and wants no status
            case _:
                at = (instance_id, message.request_id)
                gateway = self._routes.get(at)
                if gateway is not None:
                    self._post(gateway, FromInstance(instance_id, message))
                if isinstance(message, wire.StreamStopped):
                    self._routes.pop(at, None)

    @property
    def num_routes(self) -> int:
        """The number of requests that are routed to a connected gateway."""
        return len(self._routes)

    async def serve(self, gateway: GatewayChannel) -> None:
        """Relay messages of one connection until it closes."""
        self._gateways.append(gateway)
        try:
            for instance_id, online in self._online.items():
                gateway.post(FromInstance(instance_id, online))
            while True:
                self._take(gateway, await gateway.receive())
        except ChannelClosedError:
            return
        finally:
            self._forget(gateway)

    def connect(self) -> MemoryChannel[ToInstance, FromInstance]:
        """Return the gateway's end of a connection within this process."""
        ours, theirs = memory_pair()
        task = asyncio.get_running_loop().create_task(self.serve(ours))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return theirs

    async def close(self) -> None:
        """Close all connections."""
        for gateway in list(self._gateways):
            self._forget(gateway)
        await asyncio.gather(*self._tasks)

    def _take(self, gateway: GatewayChannel, envelope: ToInstance) -> None:
        instance_id, message = envelope.instance_id, envelope.message
        host = self._hosts.get(instance_id)
        match message:
            case wire.GetHostStatus() | wire.Shutdown():
                return  # only the worker ends or inspects hosts
            case wire.StartStream() | wire.PrepareStream():
                request_id = message.spec.request_id
            case (
                wire.StopStream(request_id)
                | wire.PollStream(request_id)
                | wire.MigrateStream(request_id)
                | wire.CommitStream(request_id)
                | wire.CancelMigration(request_id)
            ):
                pass
            case _:
                assert_never(message)
        if host is None:
            self._post(
                gateway,
                FromInstance(instance_id, wire.EngineFailed("the instance is not on this server")),
            )
        else:
            self._routes[instance_id, request_id] = gateway
            host(message)

    def _broadcast(self, envelope: FromInstance) -> None:
        for gateway in list(self._gateways):
            self._post(gateway, envelope)

    def _post(self, gateway: GatewayChannel, envelope: FromInstance) -> None:
        try:
            gateway.post(envelope)
        except ChannelClosedError:  # the gateway will reconnect and poll
            self._forget(gateway)

    def _forget(self, gateway: GatewayChannel) -> None:
        gateway.close()
        if gateway in self._gateways:
            self._gateways.remove(gateway)
            self._routes = {at: to for at, to in self._routes.items() if to is not gateway}


@asynccontextmanager
async def serving(plane: DataPlane, address: str, key: bytes) -> AsyncIterator[str]:
    """Accept gateways at `unix:PATH` or `tcp:HOST:PORT`; yield the address, with its port.

    `key` is the cluster's.
    """
    async with listening(address, key, ToInstance, plane.serve) as bound:
        plane.address = bound
        try:
            yield bound
        finally:
            await plane.close()
