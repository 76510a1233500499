"""A child process for one engine, watched by its worker: no failure in it can harm the worker.

The worker notices the end of the process at once, by a descriptor of it, and a stopped process by
unanswered pings. It ends the process by SIGKILL: nothing in it needs to be saved.
"""

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from sllmreal import logs
from sllmreal.engine.errors import EngineLostError
from sllmreal.engine.kind import Interpreter
from sllmreal.transport.errors import ChannelClosedError
from sllmreal.worker.child_messages import FromChild, Ping, Pong, ToChild, worker_end
from sllmreal.worker.process_options import ProcessOptions

if TYPE_CHECKING:
    from sllmreal.transport.channel import Channel


class EngineProcess:
    """A child process for one engine.

    Attributes:
        on_message: Called with each message of the child, in the event loop; may be replaced.
        max_unanswered: The process is lost after so many unanswered pings in a row.
    """

    def __init__(
        self,
        options: ProcessOptions,
        on_message: Callable[[FromChild], None],
        interpreter: Interpreter | None = None,
    ) -> None:
        self.on_message = on_message
        self.max_unanswered = options.max_unanswered_booting
        self._options = options
        self._interpreter = interpreter or Interpreter()
        self._loop = asyncio.get_running_loop()
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Channel[ToChild, FromChild] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._num_unanswered = 0
        self._move_socket: Path | None = None
        self._lost: asyncio.Future[str] = self._loop.create_future()
        self._exited: asyncio.Future[None] = self._loop.create_future()

    @property
    def pid(self) -> int | None:
        """The id of the process; None before it starts and after it ends."""
        return None if self._process is None or self._exited.done() else self._process.pid

    @property
    def move_address(self) -> str:
        """The address at which its host is to listen for other hosts: its own, if a Unix socket."""
        socket_ = self._move_socket
        return self._options.move_address if socket_ is None else f"unix:{socket_}"

    @property
    def is_lost(self) -> bool:
        """True if the process has ended or counts as stopped."""
        return self._lost.done()

    async def open(self) -> None:
        """Start the process. Raises EngineLostError if the machine refuses another process."""
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

    def send(self, message: ToChild) -> None:
        """Send a message without waiting. The message is dropped if the process is gone."""
        if self._channel is not None:
            with suppress(ChannelClosedError):  # `_listen` handles the end
                self._channel.post(message)

    async def answer(self, awaited: "asyncio.Future[None]") -> None:
        """Wait for a future that the process completes. Raises EngineLostError if it is lost."""
        either: list[asyncio.Future[None] | asyncio.Future[str]] = [awaited, self._lost]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not awaited.done():
            raise EngineLostError(self._lost.result())
        awaited.result()

    def lose(self, reason: str) -> None:
        """Count the process as lost."""
        if not self._lost.done():
            self._lost.set_result(reason)

    async def lost(self) -> str:
        """Wait until the process is lost; return the reason."""
        return await asyncio.shield(self._lost)

    async def end(self) -> None:
        """Kill the process; return when it is gone with its open files. May be called twice."""
        if self._process is not None:
            self._process.kill()
            await asyncio.shield(self._exited)
            self._remove_socket()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._channel is not None:
            self._channel.close()

    def _spawn(self) -> socket.socket:
        """Start the process; return our end of its socket."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        python = self._interpreter.python
        environment = {**os.environ, **self._interpreter.environment, **self._options.environment}
        try:
            with theirs:
                self._process = subprocess.Popen(  # noqa: S603 - ourselves
                    [
                        *(python, "-m", "sllmreal.worker.child", str(theirs.fileno())),
                        *logs.child_options(),
                    ],
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    env=environment,
                )
        except OSError as error:
            ours.close()
            raise EngineLostError(f"cannot start an engine process: {error}") from error
        kind, _, place = self._options.move_address.partition(":")
        if kind == "unix":
            self._move_socket = Path(place) / str(self._process.pid)
            self._remove_socket()  # left by a dead process that had the same id
        pid_fd = os.pidfd_open(self._process.pid)
        self._loop.add_reader(pid_fd, self._has_exited, self._process, pid_fd)
        return ours

    def _has_exited(self, process: "subprocess.Popen[bytes]", pid_fd: int) -> None:
        self._loop.remove_reader(pid_fd)
        os.close(pid_fd)
        self.lose(f"its process {_ending(process.wait())}")
        self._exited.set_result(None)

    def _remove_socket(self) -> None:
        if self._move_socket is not None:
            self._move_socket.unlink(missing_ok=True)

    async def _listen(self, channel: "Channel[ToChild, FromChild]") -> None:
        try:
            while True:
                message = await channel.receive()
                self._num_unanswered = 0
                if not isinstance(message, Pong):
                    self.on_message(message)
        except ChannelClosedError as error:
            # The process has ended, and its exit status is the better reason; or a message was bad.
            await asyncio.wait([self._exited], timeout=self._options.beat_s)
            self.lose(str(error))

    async def _beat(self) -> None:
        """Count unanswered pings, not time: a worker that was suspended keeps its engines."""
        while self._num_unanswered < self.max_unanswered:
            self._num_unanswered += 1
            self.send(Ping())
            await asyncio.sleep(self._options.beat_s)
        self.lose(f"its process left {self._num_unanswered} pings unanswered")


def _ending(code: int) -> str:
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with code {code}"
