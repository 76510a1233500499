"""Addresses of listening processes: `unix:PATH`, for this user only, or `tcp:HOST:PORT`."""

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from sllmcore.errors import ClusterError, UsageError

P = TypeVar("P", bound=asyncio.Protocol)


def is_address(text: str) -> bool:
    """Return whether a text is of the form `unix:PATH` or `tcp:HOST:PORT`."""
    return text.startswith(("unix:", "tcp:"))


def tcp_address(host: str, port: int) -> str:
    """Return the address of a port. `host` is a name, an IPv4 or an IPv6 address."""
    return f"tcp:[{host}]:{port}" if ":" in host else f"tcp:{host}:{port}"


def own_host() -> str:
    """Return this machine's IP address on the interface that leads to other machines."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # no machine has it; `connect` sends nothing
        except OSError:
            return "127.0.0.1"
        host: str = probe.getsockname()[0]
    return host


async def connected(address: str, make: Callable[[], P]) -> P:
    """Connect to an address.

    Raises:
        OSError: No process listens at the address.
        UsageError: The address is malformed.
    """
    loop = asyncio.get_running_loop()
    if address.startswith("unix:"):
        _, protocol = await loop.create_unix_connection(make, address.removeprefix("unix:"))
    else:
        host, port = host_and_port(address)
        _, protocol = await loop.create_connection(make, host, port)
    return protocol


async def start_server(
    address: str, make: Callable[[], asyncio.Protocol]
) -> tuple[asyncio.Server, str]:
    """Listen at an address; return the server and its address, with the port chosen for port 0.

    Raises:
        ClusterError: The address is in use or not available.
        UsageError: The address is malformed.
    """
    try:
        if address.startswith("unix:"):
            return await _start_unix_server(Path(address.removeprefix("unix:")), make), address
        host, port = host_and_port(address)
        server = await asyncio.get_running_loop().create_server(make, host, port)
    except OSError as error:
        raise ClusterError(f"cannot listen at {address}: {error}") from error
    return server, tcp_address(host, server.sockets[0].getsockname()[1])


def host_and_port(address: str) -> tuple[str, int]:
    """Return host and port of a TCP address. Raises UsageError if it is malformed."""
    kind, _, place = address.partition(":")
    host, _, port = place.rpartition(":")
    if kind != "tcp" or not host or not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"an address is unix:PATH or tcp:HOST:PORT, got {address!r}")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _free(path: Path) -> None:
    """Remove the socket of a process that died."""
    with suppress(FileNotFoundError):
        path.unlink()


async def _start_unix_server(path: Path, make: Callable[[], asyncio.Protocol]) -> asyncio.Server:
    _free(path)
    mask = os.umask(0o177)  # the socket never is open to other users
    try:
        return await asyncio.get_running_loop().create_unix_server(make, path)
    finally:
        os.umask(mask)
