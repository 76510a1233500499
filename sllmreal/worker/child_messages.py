"""What a worker and the process of one of its engines say to each other, beside the host's words.

worker    WarmUp           Boot          Run               ToHost ...       Ping
child             WarmedUp       Booted  CannotRun | Online, ToOwner ...    Pong

WarmUp is for a process that is to wait for a model; one that is started for a model begins with
Boot.
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
    """A message is an array: its name, then its fields."""


class WarmUp(_Message, frozen=True):
    """Do what takes long for an engine of that name, whatever its model, out of others' way."""

    engine: str


class Boot(_Message, frozen=True):
    """Become ready to make the engine of a model, whose host listens for moves at an address."""

    model: ModelDeployment
    move_address: str
    options: HostOptions


class RunInstance(_Message, frozen=True):
    """The weights are there: make the engine."""

    weights: Weights | None


class Ping(_Message, frozen=True):
    """Are you alive?"""


class WarmedUp(_Message, frozen=True):
    """All that needs no model is done."""


class Booted(_Message, frozen=True):
    """All that needs no weights is done."""


class CannotRun(_Message, frozen=True):
    """There will be no engine. `usage`: the model is to blame, not this machine."""

    reason: str
    usage: bool


class Pong(_Message, frozen=True):
    """The answer to a Ping: not even a busy engine holds it up."""


ToChild = WarmUp | Boot | RunInstance | Ping | wire.ToHost
FromChild = WarmedUp | Booted | CannotRun | Pong | wire.ToOwner

# The channel is a pair of sockets that nobody else has: there is nothing to prove to each other.
_KEYS = (b"worker to child", b"child to worker")


async def child_end(ours: socket.socket) -> "SocketChannel[Any, Any]":
    """The child's channel to its worker."""
    return SocketChannel(await _stream(ours), (_KEYS[1], _KEYS[0]), ToChild)


async def worker_end(ours: socket.socket) -> "SocketChannel[Any, Any]":
    """The worker's channel to a child."""
    return SocketChannel(await _stream(ours), _KEYS, FromChild)


async def _stream(ours: socket.socket) -> ByteStream:
    loop = asyncio.get_running_loop()
    _, stream = await loop.create_unix_connection(ByteStream, sock=ours)
    return stream
