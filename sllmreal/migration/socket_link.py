"""A link over a socket, with a thread that writes queued messages and one that reads.

An end without messages sends `Alive` at intervals, so that a long silence means a lost link however
long the engines take.
"""

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from sllmcore.errors import UsageError
from sllmreal.migration.errors import MigrationError
from sllmreal.migration.frames import Framed, Opener, Sealer
from sllmreal.migration.links import PeerMessage
from sllmreal.migration.messages import Alive
from sllmreal.transport.blocking import read_fully, write_fully
from sllmreal.transport.errors import LinkError


@dataclass(frozen=True, slots=True)
class LinkTimeouts:
    """The deadlines of a link.

    Args:
        connect_s: To connect and authenticate.
        frame_s: To send or receive a frame.
        idle_s: Between frames.
    """

    connect_s: float = 5.0
    frame_s: float = 10.0
    idle_s: float = 20.0

    def __post_init__(self) -> None:
        if min(self.connect_s, self.frame_s, self.idle_s) <= 0:
            raise UsageError(f"timeouts must be positive, got {self}")

    @property
    def alive_s(self) -> float:
        """Longest silence of an end, in seconds. A new link's first frame is due in `connect_s`."""
        return min(self.connect_s, self.idle_s) / 4


@dataclass(frozen=True, slots=True)
class Opened:
    """A connected socket after the exchange of nonces."""

    connection: socket.socket
    sealer: Sealer
    opener: Opener


class SocketLink:
    """A link. Its socket is opened by the writing thread.

    Args:
        open_: Opens the socket. May block.
        received: Called with each message, in the reading thread.
        ended: Called once, with the reason, unless this end closed the link.
    """

    def __init__(
        self,
        open_: Callable[[], Opened],
        received: Callable[[PeerMessage], None],
        ended: Callable[[str], None],
        timeouts: LinkTimeouts,
    ) -> None:
        self._open = open_
        self._received = received
        self._ended = ended
        self._timeouts = timeouts
        self._queue: SimpleQueue[PeerMessage | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._over = False
        self._writer = threading.Thread(target=self._write, name="link writer", daemon=True)

    def start(self) -> None:
        """Start the writing thread."""
        self._writer.start()

    def transmit(self, message: PeerMessage) -> None:
        """Queue a message."""
        self._queue.put(message)

    def close(self) -> None:
        """Close the link after the queued messages. Does not wait for that."""
        with self._lock:
            self._over = True
        self._queue.put(None)

    def _write(self) -> None:
        try:
            opened = self._open()
        except (MigrationError, LinkError) as error:
            self._fail(str(error))
            return
        reader = threading.Thread(
            target=self._read, args=(opened,), name="link reader", daemon=True
        )
        reader.start()
        with opened.connection:
            try:
                while (message := self._next()) is not None:
                    parts = opened.sealer.seal(message)
                    write_fully(opened.connection, parts, time.monotonic() + self._timeouts.frame_s)
            except (MigrationError, LinkError) as error:
                self._fail(str(error))
            finally:
                _shut(opened.connection)
                reader.join()

    def _next(self) -> Framed | None:
        """Return the next message to send; None: the link is to be closed."""
        try:
            return self._queue.get(timeout=self._timeouts.alive_s)
        except Empty:
            return Alive()

    def _read(self, opened: Opened) -> None:
        try:
            while True:
                message = read_message(opened, self._timeouts)
                if not isinstance(message, Alive):
                    self._received(message)
        except (MigrationError, LinkError) as error:
            self._fail(str(error))
            self._queue.put(None)

    def _fail(self, reason: str) -> None:
        with self._lock:
            over, self._over = self._over, True
        if not over:
            self._ended(reason)


def read_message(opened: Opened, timeouts: LinkTimeouts) -> Framed:
    """Read and return the next message, within `idle_s` plus `frame_s`.

    Raises:
        MigrationError: The frame is not authentic, or malformed.
        LinkError: The connection ended, or a deadline passed.
    """
    waits_s = iter((timeouts.idle_s, timeouts.frame_s))

    def read(target: memoryview) -> None:
        read_fully(opened.connection, target, time.monotonic() + next(waits_s))

    return opened.opener.open(read)


def _shut(connection: socket.socket) -> None:
    """End a connection from which another thread may be reading."""
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it has ended already
