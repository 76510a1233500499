"""An engine in a process of its own: whatever it does, the worker lives on.

Its end is noticed at once by a descriptor of the process, that it was stopped by pings without an
answer. It is ended by SIGKILL: there is nothing in it that is worth a goodbye.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sllmcore.errors import UsageError
from sllmreal.engine import wire
from sllmreal.engine.errors import EngineLostError
from sllmreal.engine.host_options import HostOptions
from sllmreal.protocol.errors import ChannelClosedError
from sllmreal.protocol.model import ModelSpec
from sllmreal.worker.child_messages import (
    Boot,
    Booted,
    CannotRun,
    FromChild,
    Ping,
    Pong,
    Run,
    ToChild,
    worker_end,
)
from sllmreal.worker.engines import check_settings
from sllmreal.worker.runner import Launch, Runner, Send
from sllmreal.worker.storage import Weights

if TYPE_CHECKING:
    from sllmreal.protocol.channel import Channel


@dataclass(frozen=True, slots=True)
class ProcessOptions:
    """How engine processes are run and watched.

    A process that leaves `max_unanswered` pings in a row without an answer, `beat_s` apart, is
    lost; until it is online, `max_unanswered_booting`, for imports hold everything else up.
    `environment` is added to the worker's own. At `move_address` each host listens for the other
    hosts of its cluster, `unix:` or `tcp:` with port 0.
    """

    beat_s: float = 1.0
    max_unanswered: int = 10
    max_unanswered_booting: int = 120
    move_address: str = "tcp:127.0.0.1:0"
    environment: Mapping[str, str] = field(default_factory=dict)
    host: HostOptions = field(default_factory=HostOptions)

    def __post_init__(self) -> None:
        if self.beat_s <= 0 or min(self.max_unanswered, self.max_unanswered_booting) < 1:
            raise UsageError(f"beats and pings must be positive, got {self}")


class ProcessRunner:
    """Runs an engine in a child process."""

    def __init__(
        self, instance_id: str, model: ModelSpec, send: Send, options: ProcessOptions
    ) -> None:
        self._instance_id = instance_id
        self._model = model
        self._send = send
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Channel[ToChild, FromChild] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._num_unanswered = 0
        self._booted: asyncio.Future[None] = self._loop.create_future()
        self._online: asyncio.Future[None] = self._loop.create_future()
        self._lost: asyncio.Future[str] = self._loop.create_future()
        self._exited: asyncio.Future[None] = self._loop.create_future()

    @property
    def pid(self) -> int | None:
        """Of the process, while there is one."""
        return None if self._process is None else self._process.pid

    async def boot(self) -> None:
        check_settings(self._model)
        ours = self._spawn()
        try:
            self._channel = channel = await worker_end(ours)
        except BaseException:
            ours.close()
            raise
        self._tasks = [
            self._loop.create_task(self._listen(channel)),
            self._loop.create_task(self._beat()),
        ]
        self._tell(Boot(self._model, self._options.move_address, self._options.host))
        await self._or_lost(self._booted)

    async def start(self, weights: Weights | None) -> None:
        self._tell(Run(weights))
        await self._or_lost(self._online)

    def post(self, message: wire.ToHost) -> None:
        self._tell(message)

    async def lost(self) -> str:
        return await asyncio.shield(self._lost)

    async def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            await asyncio.shield(self._exited)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._channel is not None:
            self._channel.close()

    def _spawn(self) -> socket.socket:
        """Start the process; returns our end of its socket."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        try:
            with theirs:
                self._process = subprocess.Popen(  # noqa: S603 - ourselves
                    [sys.executable, "-m", "sllmreal.worker.child", str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    env={**os.environ, **self._options.environment},
                )
        except OSError as error:
            ours.close()
            raise EngineLostError(f"no process for {self._instance_id}: {error}") from error
        pid_fd = os.pidfd_open(self._process.pid)
        self._loop.add_reader(pid_fd, self._has_exited, self._process, pid_fd)
        return ours

    def _has_exited(self, process: "subprocess.Popen[bytes]", pid_fd: int) -> None:
        self._loop.remove_reader(pid_fd)
        os.close(pid_fd)
        self._lose(f"its process {_ending(process.wait())}")
        self._exited.set_result(None)

    def _lose(self, reason: str) -> None:
        if not self._lost.done():
            self._lost.set_result(reason)

    async def _or_lost(self, awaited: "asyncio.Future[None]") -> None:
        either: list[asyncio.Future[None] | asyncio.Future[str]] = [awaited, self._lost]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not awaited.done():
            raise EngineLostError(self._lost.result())
        awaited.result()

    async def _listen(self, channel: "Channel[ToChild, FromChild]") -> None:
        try:
            while True:
                message = await channel.receive()
                self._num_unanswered = 0
                self._take(message)
        except ChannelClosedError as error:
            # Closed by its end, which tells more, or by words that are none.
            await asyncio.wait([self._exited], timeout=self._options.beat_s)
            self._lose(str(error))

    def _take(self, message: FromChild) -> None:
        match message:
            case Pong():
                return
            case Booted() if not self._booted.done():
                self._booted.set_result(None)
            case CannotRun(reason, usage):
                error = UsageError(reason) if usage else EngineLostError(reason)
                for awaited in (self._booted, self._online):
                    if not awaited.done():
                        awaited.set_exception(error)
                        awaited.exception()  # one of them may have nobody waiting
            case Booted() | CannotRun():
                return
            case _:
                if isinstance(message, wire.Online) and not self._online.done():
                    self._online.set_result(None)
                if isinstance(message, wire.Broken):
                    self._lose(message.reason)
                self._send(message)

    async def _beat(self) -> None:
        """Count what goes unanswered: a worker that was held up itself blames nobody for it."""
        while self._num_unanswered < self._patience:
            self._num_unanswered += 1
            self._tell(Ping())
            await asyncio.sleep(self._options.beat_s)
        self._lose(f"its process left {self._num_unanswered} pings unanswered")

    @property
    def _patience(self) -> int:
        online = self._online.done()
        return self._options.max_unanswered if online else self._options.max_unanswered_booting

    def _tell(self, message: ToChild) -> None:
        if self._channel is not None:
            with suppress(ChannelClosedError):  # `_listen` hears of it too
                self._channel.post(message)


def process_launch(options: ProcessOptions | None = None) -> Launch:
    """Runs every instance in a process of its own; weights are views of the worker's pool."""
    chosen = options or ProcessOptions()

    def launch(instance_id: str, model: ModelSpec, send: Send) -> Runner:
        return ProcessRunner(instance_id, model, send, chosen)

    return launch


def _ending(code: int) -> str:
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with code {code}"
