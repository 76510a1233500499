"""Runners with given times, and a worker with recorded reports."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from sllmcore.events import LoadFinished
from sllmcore.types import Residency, ServerSpec, StorageTier
from sllmreal.control.deployment import ModelDeployment
from sllmreal.control.messages import EvictCopy, LaunchInstance, Order, ReportedEvent, StopInstance
from sllmreal.engine.errors import EngineLostError
from sllmreal.engine.weights import Weights
from sllmreal.streams import messages as wire
from sllmreal.worker.data_plane import DataPlane
from sllmreal.worker.paced import PacedStorage
from sllmreal.worker.runner import Send
from sllmreal.worker.worker import Worker


@dataclass
class FakeRunner:
    """An engine that boots, starts and stops in given times, and breaks on demand."""

    instance_id: str
    boot_s: float = 0.0
    start_s: float = 0.0
    stop_s: float = 0.0
    boot_fails: bool = False
    broken: "asyncio.Future[str]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    log: list[str] = field(default_factory=list)

    async def boot(self) -> None:
        await asyncio.sleep(self.boot_s)
        if self.boot_fails:
            raise EngineLostError("it did not boot")
        self.log.append("booted")

    async def start(self, weights: Weights | None) -> None:
        await asyncio.sleep(self.start_s)
        self.log.append("started")

    def post(self, message: wire.ToHost) -> None:
        self.log.append(type(message).__name__)

    async def lost(self) -> str:
        return await asyncio.shield(self.broken)

    async def stop(self) -> None:
        await asyncio.sleep(self.stop_s)
        self.log.append("stopped")


@dataclass(frozen=True)
class Times:
    boot_s: float = 0.0
    start_s: float = 0.0
    stop_s: float = 0.0
    boot_fails: bool = False


class Stage:
    """A worker over paced tiers and fake runners; `reports` are (instant, event)."""

    def __init__(
        self,
        server: ServerSpec,
        times: dict[str, Times] | None = None,
        resident: tuple[Residency, ...] = (),
    ) -> None:
        self.reports: list[tuple[float, ReportedEvent]] = []
        self.runners: dict[str, FakeRunner] = {}
        self._times = times or {}
        self._next_id = 0
        self.on_report: Callable[[LoadFinished], None] = lambda event: None
        self.storage = PacedStorage(server, resident)
        self.worker = Worker(server, self.storage, self._launch, DataPlane(), self._report)

    def start(
        self,
        instance_id: str,
        model: ModelDeployment,
        gpus: tuple[int, ...] = (0,),
        cache_in: tuple[StorageTier, ...] = (),
        after: str | None = None,
    ) -> None:
        self._execute(LaunchInstance(self._id(), instance_id, model, gpus, cache_in, after))

    def stop(self, instance_id: str, *, loaded: bool) -> None:
        self._execute(StopInstance(self._id(), instance_id, loaded))

    def evict(self, tier: StorageTier, model: str, keep_bytes: int = 0) -> None:
        self._execute(EvictCopy(self._id(), tier, model, keep_bytes))

    def finished(self) -> list[tuple[float, LoadFinished]]:
        return [(at_s, event) for at_s, event in self.reports if isinstance(event, LoadFinished)]

    def _execute(self, order: Order) -> None:
        self.worker.execute(order)

    def _id(self) -> int:
        self._next_id += 1
        return self._next_id

    def _report(self, event: ReportedEvent) -> None:
        self.reports.append((asyncio.get_running_loop().time(), event))
        if isinstance(event, LoadFinished):
            self.on_report(event)

    def _launch(self, instance_id: str, model: ModelDeployment, send: Send) -> FakeRunner:
        times = self._times.get(instance_id, Times())
        runner = FakeRunner(
            instance_id, times.boot_s, times.start_s, times.stop_s, times.boot_fails
        )
        self.runners[instance_id] = runner
        return runner
