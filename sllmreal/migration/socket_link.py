"""One link over a socket: a thread that writes what is queued, one that reads what comes.

An end that has nothing to say says `Alive` now and then: a long silence is a lost link, however
long the engines behind it take.
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
    """How long the other end may take: to connect and prove itself, for a frame, between frames."""

    connect_s: float = 5.0
    frame_s: float = 10.0
    idle_s: float = 20.0

    def __post_init__(self) -> None:
        if min(self.connect_s, self.frame_s, self.idle_s) <= 0:
            raise UsageError(f"timeouts must be positive, got {self}")

    @property
    def alive_s(self) -> float:
        """How long an end may be silent. A new link's first frame has `connect_s`."""
        return min(self.connect_s, self.idle_s) / 4


@dataclass(frozen=True, slots=True)
class Opened:
    """A socket whose ends have greeted each other."""

    connection: socket.socket
    sealer: Sealer
    opener: Opener


class SocketLink:
    """Made before its socket is there: `open` brings it, in the writing thread.

    `ended` is called once, with the reason, unless this end closed the link.
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
        self._writer.start()

    def transmit(self, message: PeerMessage) -> None:
        self._queue.put(message)

    def close(self) -> None:
        """Send what is queued, then close. Returns at once."""
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
        """What to send next; None at the end."""
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
    """Return the next message; a frame that has begun must not take long.

    Raises MigrationError, LinkError.
    """
    waits_s = iter((timeouts.idle_s, timeouts.frame_s))

    def read(target: memoryview) -> None:
        read_fully(opened.connection, target, time.monotonic() + next(waits_s))

    return opened.opener.open(read)


def _shut(connection: socket.socket) -> None:
    """End a connection that another thread may be reading from."""
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it has ended already
