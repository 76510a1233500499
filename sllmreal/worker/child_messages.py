"""Messages between a worker and the process of an engine, besides those of the engine host.

worker    WarmUp           BootEngine         StartEngine                          ToHost    Ping
child             WarmedUp         EngineBooted      EngineStartFailed | HostOnline, ToOwner   Pong

A spare process begins with WarmUp. A process that is started for a model begins with BootEngine.
"""

import asyncio
import socket
from typing import TYPE_CHECKING

import msgspec

from sllmreal.control.deployment import ModelDeployment
from sllmreal.engine.weights import Weights
from sllmreal.streams import messages as wire
from sllmreal.streams.host_io import HostOptions
from sllmreal.transport.byte_stream import ByteStream
from sllmreal.transport.socket_channel import SocketChannel

if TYPE_CHECKING:
    from typing import Any


class _Message(msgspec.Struct, frozen=True, tag=True, array_like=True, forbid_unknown_fields=True):
    """A message is an array: its class name, then its fields."""


class WarmUp(_Message, frozen=True):
    """Do the warm-up of an engine kind, at low priority, whatever the model will be."""

    engine: str


class BootEngine(_Message, frozen=True):
    """Prepare for the engine of a model: do everything that needs no weights.

    The engine host will listen for migrations at `move_address`.
    """

    model: ModelDeployment
    move_address: str
    options: HostOptions


class StartEngine(_Message, frozen=True):
    """Make the engine: the weights are in place."""

    weights: Weights | None


class Ping(_Message, frozen=True):
    """Request a Pong."""


class WarmedUp(_Message, frozen=True):
    """Report that the warm-up is done."""


class EngineBooted(_Message, frozen=True):
    """Report that everything that needs no weights is done."""


class EngineStartFailed(_Message, frozen=True):
    """Report that no engine can be made. `usage`: because of the model, not of this machine."""

    reason: str
    usage: bool


class Pong(_Message, frozen=True):
    """Answer a Ping. A busy engine does not delay it."""


ToChild = WarmUp | BootEngine | StartEngine | Ping | wire.ToHost
FromChild = WarmedUp | EngineBooted | EngineStartFailed | Pong | wire.ToOwner

# The channel is a pair of sockets that no other process has, so these keys need not be secret.
_KEYS = (b"worker to child", b"child to worker")


async def child_end(ours: socket.socket) -> "SocketChannel[Any, Any]":
    """Return the child's channel to its worker."""
    return SocketChannel(await _stream(ours), (_KEYS[1], _KEYS[0]), ToChild)


async def worker_end(ours: socket.socket) -> "SocketChannel[Any, Any]":
    """Return the worker's channel to a child."""
    return SocketChannel(await _stream(ours), _KEYS, FromChild)


async def _stream(ours: socket.socket) -> ByteStream:
    loop = asyncio.get_running_loop()
    _, stream = await loop.create_unix_connection(ByteStream, sock=ours)
    return stream
