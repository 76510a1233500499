"""A connection to a node that a test can cut, or on which answers can be delayed."""

import asyncio
from contextlib import suppress
from typing import Self


class Proxy:
    """Relays bytes on a port of its own; an async context manager.

    Attributes:
        address: host:port of the proxy.
    """

    def __init__(self, target: str) -> None:
        host, port = target.split(":")
        self._target = (host, int(port))
        self._answers_pass = asyncio.Event()
        self._answers_pass.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._passing: set[asyncio.Task[None]] = set()
        self._cut = False
        self.address = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        self.address = f"{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        await asyncio.gather(*self._passing)
        await self._server.wait_closed()

    def hold_answers(self) -> None:
        """Replies of the node are dropped; requests to the node arrive."""
        self._answers_pass.clear()

    def pass_answers(self) -> None:
        """Relay answers again, the held ones first."""
        self._answers_pass.set()

    def cut(self) -> None:
        """End all connections, and each new one as soon as it is made."""
        self._cut = True
        self._answers_pass.set()
        for writer in self._writers:
            writer.close()

    def mend(self) -> None:
        """Relay new connections again."""
        self._cut = False

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._cut:
            writer.close()
            return
        node_reader, node_writer = await asyncio.open_connection(*self._target)
        self._writers |= {writer, node_writer}
        always = asyncio.Event()
        always.set()
        for way in (
            _pass(reader, node_writer, always),
            _pass(node_reader, writer, self._answers_pass),
        ):
            self._passing.add(asyncio.create_task(way))


async def _pass(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, passes: asyncio.Event
) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            await passes.wait()
            writer.write(data)
            await writer.drain()
    writer.close()
