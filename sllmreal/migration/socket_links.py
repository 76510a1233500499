"""Links over Unix or TCP sockets, at `unix:/path` or `tcp:host:port`, port 0 for any.

A link has a thread that reads and one that writes; no caller waits for the other end. Each read and
write has a deadline. A connection is closed if its first frame does not prove that its sender has
the key of an expected migration; few resources are used before that.
"""

import secrets
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from sllmreal.migration.errors import AuthenticationError, MigrationError
from sllmreal.migration.frames import (
    HELLO_BYTES,
    NONCE_BYTES,
    Framed,
    Keys,
    Opener,
    Sealer,
    pack_hello,
    unpack_hello,
)
from sllmreal.migration.links import LinkEvents, PeerMessage
from sllmreal.migration.messages import Alive, ToDestination, ToSource
from sllmreal.migration.socket_link import LinkTimeouts, Opened, SocketLink, read_message
from sllmreal.transport.blocking import (
    address_of,
    connected,
    listening,
    read_fully,
    without_delay,
    write_fully,
)
from sllmreal.transport.errors import LinkError

_MAX_UNAUTHENTICATED = 32  # connections at once
_DEFAULTS = LinkTimeouts()


class SocketLinks:
    """The links of one host over sockets.

    Args:
        address: The address to listen at.

    Raises:
        LinkError: The host cannot listen there.
        UsageError: The address is malformed.
    """

    def __init__(self, address: str, timeouts: LinkTimeouts = _DEFAULTS) -> None:
        self._timeouts = timeouts
        self._listener = listening(address)
        self._address = address_of(self._listener)
        self._events: LinkEvents | None = None
        self._lock = threading.Lock()
        self._expected: dict[bytes, bytes] = {}
        self._links: dict[bytes, SocketLink] = {}
        self._unauthenticated = threading.BoundedSemaphore(_MAX_UNAUTHENTICATED)

    @property
    def address(self) -> str:
        """See `MigrationLinks`; so for all methods."""
        return self._address

    def listen_to(self, events: LinkEvents) -> None:
        self._events = events
        threading.Thread(target=self._accept, name="link listener", daemon=True).start()

    def expect(self, link_id: bytes, key: bytes) -> None:
        with self._lock:
            self._expected[link_id] = key

    def connect(self, link_id: bytes, key: bytes, address: str) -> None:
        link = self._link(link_id, lambda: self._greet(link_id, key, address))
        with self._lock:
            self._links[link_id] = link
        link.start()

    def transmit(self, link_id: bytes, message: PeerMessage) -> None:
        with self._lock:
            link = self._links.get(link_id)
        if link is not None:
            link.transmit(message)

    def disconnect(self, link_id: bytes) -> None:
        with self._lock:
            self._expected.pop(link_id, None)
            link = self._links.pop(link_id, None)
        if link is not None:
            link.close()

    def close(self) -> None:
        with self._lock:
            links, self._links = list(self._links.values()), {}
            self._expected.clear()
        for link in links:
            link.close()
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # closed before
        finally:
            self._listener.close()
            kind, _, path = self._address.partition(":")
            if kind == "unix":
                Path(path).unlink(missing_ok=True)

    def _link(self, link_id: bytes, open_: Callable[[], Opened]) -> SocketLink:
        assert self._events is not None, "listen_to comes first"
        events = self._events
        return SocketLink(
            open_,
            received=lambda message: events.received(link_id, message),
            ended=lambda reason: events.lost(link_id, reason),
            timeouts=self._timeouts,
        )

    def _greet(self, link_id: bytes, key: bytes, address: str) -> Opened:
        """Connect and exchange nonces, as the source."""
        connection = connected(address, self._timeouts.connect_s)
        try:
            deadline_s = time.monotonic() + self._timeouts.connect_s
            nonce, answer = secrets.token_bytes(NONCE_BYTES), bytearray(NONCE_BYTES)
            write_fully(connection, [pack_hello(link_id, nonce)], deadline_s)
            read_fully(connection, memoryview(answer), deadline_s)
        except LinkError:
            connection.close()
            raise
        keys = Keys.of(key, nonce, bytes(answer))
        return Opened(connection, Sealer(keys.from_source), Opener(keys.from_destination, ToSource))

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            if not self._unauthenticated.acquire(blocking=False):
                connection.close()
                continue
            threading.Thread(
                target=self._authenticate, args=(connection,), name="link handshake", daemon=True
            ).start()

    def _authenticate(self, connection: socket.socket) -> None:
        """Make a connection a link if its first frame is authentic; otherwise close it."""
        try:
            self._admit(connection)
        except (MigrationError, LinkError):
            connection.close()
        finally:
            self._unauthenticated.release()

    def _admit(self, connection: socket.socket) -> None:
        without_delay(connection)
        deadline_s = time.monotonic() + self._timeouts.connect_s
        raw, nonce = bytearray(HELLO_BYTES), secrets.token_bytes(NONCE_BYTES)
        read_fully(connection, memoryview(raw), deadline_s)
        hello = unpack_hello(bytes(raw))
        with self._lock:
            key = self._expected.get(hello.link_id)
        if key is None:
            raise AuthenticationError("no migration with this link id is expected")
        write_fully(connection, [nonce], deadline_s)
        keys = Keys.of(key, hello.nonce, nonce)
        opened = Opened(
            connection, Sealer(keys.from_destination), Opener(keys.from_source, ToDestination)
        )
        hurried = replace(self._timeouts, idle_s=self._timeouts.connect_s)
        first = read_message(opened, hurried)
        self._adopt(hello.link_id, opened, first)

    def _adopt(self, link_id: bytes, opened: Opened, first: Framed) -> None:
        link = self._link(link_id, lambda: opened)
        with self._lock:
            if link_id not in self._expected or link_id in self._links:
                raise AuthenticationError("this migration has a link already, or is over")
            self._links[link_id] = link
        assert self._events is not None
        if not isinstance(first, Alive):
            self._events.received(link_id, first)
        link.start()
