"""A worker over paced or real tiers, with a gateway and recorded reports."""

import asyncio
import os
import select
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sllmcore.events import LoadFinished
from sllmreal.control.deployment import ModelDeployment
from sllmreal.control.messages import LaunchInstance, Order, ReportedEvent
from sllmreal.engine.protocol import SequenceSpec
from sllmreal.streams import messages as wire
from sllmreal.transport.channel import Channel
from sllmreal.worker.data_plane import DataPlane, FromInstance, ToInstance
from sllmreal.worker.paced import PacedStorage
from sllmreal.worker.process_runner import ProcessRunner
from sllmreal.worker.runner import MakeRunner, Runner, Send
from sllmreal.worker.storage import Storage
from sllmreal.worker.worker import Worker
from tests.worker.servers import small_server

TIMED = ModelDeployment("timed", "nowhere", 1000, 64, 0.0, "timed")
ONE = wire.Epoch(1)
WAIT_S = 120.0  # on a machine that is busy otherwise


class Stage:
    """A worker, a gateway that is connected to it, and its reports."""

    def __init__(self, storage: Storage, launch: MakeRunner) -> None:
        self.reports: asyncio.Queue[ReportedEvent] = asyncio.Queue()
        self.runners: dict[str, Runner] = {}
        self._launch = launch
        self.plane = DataPlane()
        self.storage = storage
        self.worker = Worker(
            small_server(), storage, self._launched, self.plane, self.reports.put_nowait
        )
        self.gateway: Channel[ToInstance, FromInstance] = self.plane.connect()

    def execute(self, order: Order) -> None:
        self.worker.execute(order)

    async def reported(self) -> ReportedEvent:
        async with asyncio.timeout(WAIT_S):
            return await self.reports.get()

    async def loaded(self) -> LoadFinished:
        event = await self.reported()
        assert isinstance(event, LoadFinished), event
        return event

    async def generate(
        self, instance_id: str, prompt: tuple[int, ...], num: int, request_id: str = "r1"
    ) -> list[int]:
        """Return the tokens of a request on a ready instance."""
        spec = SequenceSpec(request_id, prompt, num)
        self.gateway.post(ToInstance(instance_id, wire.StartStream(ONE, wire.PackedSpec.of(spec))))
        tokens: list[int] = []
        async with asyncio.timeout(WAIT_S):
            while len(tokens) < num:
                said = (await self.gateway.receive()).message
                if isinstance(said, wire.Tokens):
                    tokens += said.tokens
                else:
                    assert isinstance(said, wire.HostOnline | wire.EngineFailed), said
        return tokens

    def _launched(self, instance_id: str, model: ModelDeployment, send: Send) -> Runner:
        self.runners[instance_id] = runner = self._launch(instance_id, model, send)
        return runner


@asynccontextmanager
async def staged(launch: MakeRunner, storage: Storage | None = None) -> AsyncIterator[Stage]:
    stage = Stage(storage or PacedStorage(small_server()), launch)
    try:
        yield stage
    finally:
        await stage.worker.close()
        await stage.plane.close()


def start(
    number: int, instance_id: str, model: ModelDeployment = TIMED, gpus: tuple[int, ...] = (0,)
) -> LaunchInstance:
    return LaunchInstance(number, instance_id, model, gpus, (), None)


def pid_of(stage: Stage, instance_id: str) -> int:
    runner = stage.runners[instance_id]
    assert isinstance(runner, ProcessRunner) and runner.pid is not None
    return runner.pid


def ended(pid: int) -> bool:
    """True if a process, which need not be our child, ends soon or has ended."""
    try:
        pid_fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([pid_fd], [], [], WAIT_S)[0])
    finally:
        os.close(pid_fd)
