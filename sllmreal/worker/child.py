"""The process of one engine: `python -m sllmreal.worker.child FD`, started by a worker only.

The engine runs in a thread of its own and the main thread carries messages, so that a worker can
distinguish a busy engine from a stopped process. The process ends with its worker.
"""

import argparse
import asyncio
import ctypes
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence

from sllmcore.errors import ControlError, UsageError
from sllmreal import logs
from sllmreal.control.deployment import ModelDeployment
from sllmreal.engine.protocol import Engine
from sllmreal.engine.weights import Weights
from sllmreal.migration.socket_links import SocketLinks
from sllmreal.streams.host import EngineHost
from sllmreal.transport.channel import Channel
from sllmreal.transport.errors import ChannelClosedError
from sllmreal.worker.child_messages import (
    BootEngine,
    EngineBooted,
    EngineStartFailed,
    FromChild,
    Ping,
    Pong,
    StartEngine,
    ToChild,
    WarmedUp,
    WarmUp,
    child_end,
)
from sllmreal.worker.engines import check_settings, engine_kind, make_engine

_PR_SET_PDEATHSIG = 1
# A thread of this priority gets a tenth of the time of one that competes with it, such as a load or
# an engine of the same worker. Linux may compare priorities within a session only (autogroups).
_WARM_UP_NICE = 10


class Child:
    """The process's side of the channel to its worker, until the channel closes."""

    def __init__(self, channel: "Channel[FromChild, ToChild]") -> None:
        self._channel = channel
        self._loop = asyncio.get_running_loop()
        self._boot: BootEngine | None = None
        self._host: EngineHost | None = None
        self._task: asyncio.Task[None] | None = None

    async def serve(self) -> None:
        """Handle messages until the worker is gone."""
        try:
            while True:
                self._take(await self._channel.receive())
        except ChannelClosedError:
            return

    def _take(self, message: ToChild) -> None:
        match message:
            case Ping():
                self._channel.post(Pong())
            case WarmUp(engine):
                # A thread cannot raise its priority again: this one ends with its work.
                thread = threading.Thread(target=self._warm_up, args=(engine,), daemon=True)
                thread.start()
            case BootEngine():
                self._boot = message
                self._task = self._loop.create_task(self._prepare(message))
            case StartEngine(weights):
                if self._boot is None:
                    raise ControlError("protocol error: StartEngine before BootEngine")
                self._task = self._loop.create_task(self._start(self._boot, weights))
            case _:
                if self._host is not None:
                    self._host.post(message)

    def _warm_up(self, engine: str) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _WARM_UP_NICE)
        try:
            engine_kind(engine).warm_up()
        except Exception as error:  # imports run foreign code
            self._loop.call_soon_threadsafe(self._fail, error)
        else:
            self._send_from_thread(WarmedUp())

    async def _prepare(self, boot: BootEngine) -> None:
        try:
            await asyncio.to_thread(_prepare, boot.model)
        except Exception as error:  # imports run foreign code
            self._fail(error)
        else:
            self._send(EngineBooted())

    async def _start(self, boot: BootEngine, weights: Weights | None) -> None:
        try:
            engine: Engine = await asyncio.to_thread(make_engine, boot.model, weights, None)
            links = SocketLinks(boot.move_address)
        except Exception as error:  # models run foreign code
            self._fail(error)
            return
        self._host = EngineHost(engine, self._send_from_thread, links=links, options=boot.options)
        self._host.start()

    def _fail(self, error: Exception) -> None:
        reason = f"{type(error).__name__}: {error}"[:2000]
        self._send(EngineStartFailed(reason, isinstance(error, UsageError)))

    def _send_from_thread(self, message: FromChild) -> None:
        self._loop.call_soon_threadsafe(self._send, message)

    def _send(self, message: FromChild) -> None:
        try:
            self._channel.post(message)
        except ChannelClosedError:
            return  # `serve` ends, too


def _prepare(model: ModelDeployment) -> None:
    check_settings(model)
    engine_kind(model.engine).prepare()


async def _serve(fd: int) -> None:
    with socket.socket(fileno=fd) as ours:
        await Child(await child_end(ours)).serve()


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the worker at the other end of the descriptor, until it is gone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("fd", type=int)
    logs.add_log_options(parser)
    given = parser.parse_args(arguments)
    logs.configure_as_given(given)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the worker to act on
    asyncio.run(_serve(given.fd))
    os._exit(0)  # the engine's thread is not waited for


if __name__ == "__main__":
    sys.exit(main())
