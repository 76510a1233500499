"""A cluster of leaders that follow one another on the same log, and links to them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sllmcore.events import RequestArrived
from sllmcore.types import Request
from sllmreal.control.heartbeat import LinkSettings
from sllmreal.control.leader_link import LeaderChannel, LeaderLink, PeerHandler
from sllmreal.leader.leader import Leader, LeaderSettings
from sllmreal.transport.channel import memory_pair
from sllmreal.transport.errors import ChannelClosedError
from tests.leader.scripted import ListLog

LINK = LinkSettings(heartbeat_s=0.05, silence_s=5.0, redial_s=0.001)
SETTINGS = LeaderSettings(grace_s=0.05, link=LINK)


class LeaderSequence:
    """Leaders that follow one another on one log; `dial` connects to the present one."""

    def __init__(self, settings: LeaderSettings = SETTINGS) -> None:
        self.log = ListLog()
        self.settings = settings
        self.leader: Leader | None = None
        self.term = 0
        self._serving: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def led(self) -> AsyncIterator[Leader]:
        """Run the next leader; at the end it dies and loses everything that is not durable."""
        self.term += 1
        leader = Leader(self.settings, self.log, self.term)
        async with leader.running():
            self.leader = leader
            try:
                yield leader
            finally:
                self.leader = None
                for task in self._serving:
                    task.cancel()

    async def dial(self) -> LeaderChannel:
        if self.leader is None:
            raise ChannelClosedError("there is no leader")
        ours, theirs = memory_pair()
        task = asyncio.create_task(self.leader.serve_peer(theirs))
        self._serving.add(task)
        return ours


@asynccontextmanager
async def attached(link: LeaderLink, handler: PeerHandler) -> AsyncIterator[LeaderLink]:
    task = asyncio.create_task(link.run(handler))
    try:
        await asyncio.wait_for(link.connected.wait(), 5)
        yield link
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: object) -> None:
    assert callable(condition)
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - many things change it
            await asyncio.sleep(0.001)


def arrival(number: int, name: str = "a") -> RequestArrived:
    return RequestArrived(Request(f"r{number}", name, 0.0, 10))
