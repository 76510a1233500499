"""Where a process listens: `unix:PATH`, for this user only, or `tcp:HOST:PORT`."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from sllmcore.errors import ClusterError, UsageError

SILENT_MACHINE_S = 10.0  # until a TCP connection to a machine that is gone counts as closed
Accepted = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def tcp_address(host: str, port: int) -> str:
    """The address of a port of a host, which is a name, an IPv4 or an IPv6 address."""
    return f"tcp:[{host}]:{port}" if ":" in host else f"tcp:{host}:{port}"


def own_host() -> str:
    """This machine's address for other machines: of the interface that leads to them."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # of no machine, and nothing is sent there
        except OSError:
            return "127.0.0.1"
        host: str = probe.getsockname()[0]
    return host


async def open_connection(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect. Raises OSError when nobody listens there, UsageError for what is no address."""
    if address.startswith("unix:"):
        return await asyncio.open_unix_connection(address.removeprefix("unix:"))
    host, port = host_and_port(address)
    return await asyncio.open_connection(host, port)


async def start_server(address: str, accepted: Accepted) -> tuple[asyncio.Server, str]:
    """Listen; the server and its address, where port 0 is replaced by the port that was free.

    Raises ClusterError when that cannot be had, UsageError for what is no address.
    """
    try:
        if address.startswith("unix:"):
            return await _start_unix_server(Path(address.removeprefix("unix:")), accepted), address
        host, port = host_and_port(address)
        server = await asyncio.start_server(accepted, host, port)
    except OSError as error:
        raise ClusterError(f"cannot listen at {address}: {error}") from error
    return server, tcp_address(host, server.sockets[0].getsockname()[1])


def host_and_port(address: str) -> tuple[str, int]:
    """Of a TCP address. Raises UsageError for what is none."""
    kind, _, place = address.partition(":")
    host, _, port = place.rpartition(":")
    if kind != "tcp" or not host or not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"an address is unix:PATH or tcp:HOST:PORT, got {address!r}")
    return host.removeprefix("[").removesuffix("]"), int(port)


def notice_silence(writer: asyncio.StreamWriter) -> None:
    """A machine that is gone resets nothing: probe it, and bound how long it acknowledges none."""
    connection = writer.get_extra_info("socket")
    if connection.family == socket.AF_UNIX:
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, int(SILENT_MACHINE_S / 2))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(SILENT_MACHINE_S * 1000))


def _free(path: Path) -> None:
    """Remove what a process left there that died."""
    with suppress(FileNotFoundError):
        path.unlink()


async def _start_unix_server(path: Path, accepted: Accepted) -> asyncio.Server:
    _free(path)
    mask = os.umask(0o177)  # the socket is this user's only, from its first moment
    try:
        return await asyncio.start_unix_server(accepted, path)
    finally:
        os.umask(mask)
