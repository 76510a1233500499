"""A host in a process of its own: a crash of the engine, or a kill, leaves its parent alive.

    process = HostProcess(HostSettings("timed", encoded(TimedOptions())), on_message, on_exit)
    process.post(wire.Start(epoch, spec))

The child, `python -m sllmreal.engine.process FD`, reads its settings and then commands from the
inherited socket, whose other end the parent holds: it ends when that does, whoever is at fault.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Sequence

import msgspec

from sllmcore.errors import SllmError
from sllmreal.engine import wire
from sllmreal.engine.errors import EngineLostError
from sllmreal.engine.host import EngineHost
from sllmreal.engine.host_options import HostOptions
from sllmreal.engine.parent_socket import MessageReader, MessageWriter
from sllmreal.engine.registry import make_engine
from sllmreal.migration.socket_links import SocketLinks

_ENDED_BY_ENGINE = 1
_ENDED_BY_PARENT = 0


class HostSettings(
    msgspec.Struct, frozen=True, tag=True, array_like=True, forbid_unknown_fields=True
):
    """An engine's name and the MessagePack of its settings; where its host listens for sources."""

    engine: str
    settings: bytes
    address: str = "tcp:127.0.0.1:0"
    options: HostOptions = msgspec.field(default_factory=HostOptions)


def encoded(settings: object) -> bytes:
    return msgspec.msgpack.encode(settings)


class HostProcess:
    """The parent's end. `on_message` and `on_exit` are called from a thread of this object.

    `on_exit` comes once, after the last message, with the process's exit code: negative is the
    signal that killed it. After that `post` does nothing.
    """

    def __init__(
        self,
        settings: HostSettings,
        on_message: Callable[[wire.ToOwner], None],
        on_exit: Callable[[int], None],
    ) -> None:
        self._on_message = on_message
        self._on_exit = on_exit
        self._socket, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "sllmreal.engine.process", str(theirs.fileno())]
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()])  # noqa: S603
        self._writer = MessageWriter(self._socket)
        self._writer.write(settings)
        self._reader = threading.Thread(target=self._read, name="host process", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def post(self, message: wire.ToHost) -> None:
        self._writer.write(message)

    def kill(self) -> None:
        """SIGKILL. `on_exit` follows."""
        self._process.kill()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Shut down, by force if it takes too long, and wait until `on_exit` has been called."""
        self.post(wire.Shutdown())
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._reader.join()

    def _read(self) -> None:
        reader: MessageReader[wire.ToOwner] = MessageReader(self._socket, wire.ToOwner)
        try:
            while (message := reader.read()) is not None:
                self._on_message(message)
        except EngineLostError:
            self._process.kill()
        code = self._process.wait()
        self._writer.close()
        reader.close()
        self._socket.close()
        self._on_exit(code)


class _Child:
    """The child's life. It ends the process itself: the engine's thread may be anywhere."""

    def __init__(self, connection: socket.socket) -> None:
        self._reader: MessageReader[HostSettings | wire.ToHost] = MessageReader(
            connection, HostSettings | wire.ToHost
        )
        self._writer = MessageWriter(connection)

    def live(self) -> None:
        settings = self._reader.read()
        if not isinstance(settings, HostSettings):
            os._exit(_ENDED_BY_PARENT)
        host = self._host(settings)
        threading.Thread(target=self._die_with, args=(host,), name="end of host").start()
        while (message := self._reader.read()) is not None:
            if not isinstance(message, HostSettings):
                host.post(message)
        os._exit(_ENDED_BY_PARENT)

    def _host(self, settings: HostSettings) -> EngineHost:
        try:
            engine = make_engine(settings.engine, settings.settings)
            links = SocketLinks(settings.address)
        except SllmError as error:
            self._say_broken(error)
            os._exit(_ENDED_BY_ENGINE)
        host = EngineHost(engine, self._writer.write, links=links, options=settings.options)
        host.start()
        return host

    def _say_broken(self, error: SllmError) -> None:
        self._writer.write(wire.Broken(f"{type(error).__name__}: {error}"))
        self._writer.close()

    def _die_with(self, host: EngineHost) -> None:
        host.join()
        self._writer.close()
        if host.failure is not None:
            traceback.print_exception(host.failure)
            os._exit(_ENDED_BY_ENGINE)
        os._exit(0)


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve the parent at the other end of the descriptor that is given. Does not return."""
    [fd] = sys.argv[1:] if arguments is None else arguments
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the parent to act on
    _Child(socket.socket(fileno=int(fd))).live()


if __name__ == "__main__":
    main()
