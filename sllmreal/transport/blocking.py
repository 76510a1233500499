"""Blocking sockets: connections by address, whole reads and writes with a deadline."""

import socket
import time
from collections.abc import Sequence
from pathlib import Path

from sllmcore.errors import UsageError
from sllmreal.transport.errors import LinkError

_BACKLOG = 64
_TOO_SLOW = "the other end is too slow"


def listening(address: str) -> socket.socket:
    """Listen at `unix:PATH`, for this user only, or `tcp:HOST:PORT`.

    Raises:
        LinkError: The address is in use or not available.
        UsageError: The address is malformed.
    """
    family, place = _parsed(address)
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.bind(place)
        if isinstance(place, str):
            Path(place).chmod(0o600)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise LinkError(f"cannot listen at {address}: {error}") from error
    return listener


def address_of(listener: socket.socket) -> str:
    """Return the address at which a socket listens."""
    name = listener.getsockname()
    return f"unix:{name}" if isinstance(name, str) else f"tcp:{name[0]}:{name[1]}"


def connected(address: str, timeout_s: float) -> socket.socket:
    """Connect to an address. Raises LinkError, and UsageError if the address is malformed."""
    family, place = _parsed(address)
    connection = socket.socket(family, socket.SOCK_STREAM)
    connection.settimeout(timeout_s)
    try:
        connection.connect(place)
    except OSError as error:
        connection.close()
        raise LinkError(f"cannot connect to {address}: {error}") from error
    without_delay(connection)
    return connection


def without_delay(connection: socket.socket) -> None:
    """Send small messages at once: a client waits for the last tokens of a migration."""
    if connection.family != socket.AF_UNIX:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def read_fully(connection: socket.socket, target: memoryview, deadline_s: float) -> None:
    """Fill `target` before `deadline_s` of `time.monotonic`. Raises LinkError."""
    done = 0
    while done < len(target):
        _wait_until(connection, deadline_s)
        try:
            count = connection.recv_into(target[done:])
        except TimeoutError:
            raise LinkError(_TOO_SLOW) from None
        except OSError as error:
            raise LinkError(f"the other end is gone: {error}") from error
        if count == 0:
            raise LinkError("the other end closed the link")
        done += count


def write_fully(connection: socket.socket, parts: Sequence[bytes], deadline_s: float) -> None:
    """Write all parts before `deadline_s` of `time.monotonic`. Raises LinkError."""
    for part in parts:
        view = memoryview(part)
        while view:
            _wait_until(connection, deadline_s)
            try:
                view = view[connection.send(view) :]
            except TimeoutError:
                raise LinkError(_TOO_SLOW) from None
            except OSError as error:
                raise LinkError(f"the other end is gone: {error}") from error


def _wait_until(connection: socket.socket, deadline_s: float) -> None:
    left_s = deadline_s - time.monotonic()
    if left_s <= 0:
        raise LinkError(_TOO_SLOW)
    try:
        connection.settimeout(left_s)
    except OSError as error:
        raise LinkError(f"the link is closed: {error}") from error


def _parsed(address: str) -> tuple[socket.AddressFamily, str | tuple[str, int]]:
    kind, _, place = address.partition(":")
    if kind == "unix" and place:
        return socket.AF_UNIX, place
    host, _, port = place.rpartition(":")
    if kind == "tcp" and host and port.isdecimal() and int(port) < 1 << 16:
        return socket.AF_INET6 if ":" in host else socket.AF_INET, (host.strip("[]"), int(port))
    raise UsageError(f"an address is unix:PATH or tcp:HOST:PORT, got {address!r}")
